// A Minecraft Bedrock server over RakNet (bedrock-protocol, offline): node bedrock_server.js HOST PORT VERSION
//
// It has no world: a player who has logged in is told to spawn at once. Reports `ready`, `joined`, `spawned`, `chat` and `left`; answers each line
// of chat with its echo, and "big please" with a text that takes dozens of full datagrams.
'use strict'
const { randomBytes } = require('crypto')
const { createServer } = require('bedrock-protocol')
const { report } = require('./session')

const [host, port, version] = process.argv.slice(2)
const BIG = 60000

function text (message) {
  return {
    type: 'chat', needs_translation: false, source_name: 'server', message, xuid: '', platform_chat_id: '', filtered_message: ''
  }
}

const server = createServer({
  host,
  port: Number(port),
  version,
  offline: true,
  raknetBackend: 'raknet-native',
  maxPlayers: 7,
  motd: { motd: 'compatibility suite', levelName: 'nowhere' }
})

server.on('connect', (player) => {
  const name = () => player.profile?.name
  player.on('join', () => {
    report('joined', { player: name() })
    player.write('resource_packs_info', {
      must_accept: false,
      has_addons: false,
      has_scripts: false,
      disable_vibrant_visuals: false,
      world_template: { uuid: '00000000-0000-0000-0000-000000000000', version: '' },
      texture_packs: []
    })
    player.once('resource_pack_client_response', () => player.write('play_status', { status: 'player_spawn' }))
  })
  player.on('spawn', () => report('spawned', { player: name() }))
  player.on('text', ({ message }) => {
    report('chat', { player: name(), text: message })
    // Random, so that compression leaves it big.
    const answer = message === 'big please' ? randomBytes(BIG * 3 / 4).toString('base64') : `you said: ${message}`
    player.queue('text', text(answer))
  })
  player.on('close', () => report('left', { player: name() }))
})

report('ready')
