// A Minecraft Java server (flying-squid, offline mode, flat world): node java_server.js HOST PORT VERSION [MOTD]
//
// Reports `ready`, `looked` (a list ping), `joined`, `chat` and `left`, and greets by name whoever says "hello server".
'use strict'
const { createMCServer } = require('flying-squid')
const { report } = require('./session')

const [host, port, version, motd = 'compatibility suite'] = process.argv.slice(2)

const server = createMCServer({
  ...require('flying-squid/config/default-settings.json'),
  host,
  port: Number(port),
  version,
  motd,
  'max-players': 7,
  'online-mode': false,
  enforceSecureProfile: false,
  logging: false,
  generation: { name: 'superflat', options: {} },
  worldFolder: undefined,
  'view-distance': 4,
  beforePing: () => report('looked')
})

server.on('ready', () => report('ready'))
server.on('error', (error) => { throw error })
server.on('newPlayer', (player) => {
  player.on('connected', () => report('joined', { player: player.username }))
  player.on('chat', ({ message }) => {
    report('chat', { player: player.username, text: message })
    if (message === 'hello server') server.broadcast(`hello ${player.username}`)
  })
  player.on('disconnected', () => report('left', { player: player.username }))
})
