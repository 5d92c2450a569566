// A Minecraft Bedrock player over RakNet (bedrock-protocol): node bedrock_player.js HOST PORT VERSION
//
// Pings, logs in, is spawned, chats, receives a reply of dozens of full datagrams, and leaves.
'use strict'
const { createClient, ping } = require('bedrock-protocol')
const { within, heard, runClient } = require('./session')

const [host, port, version] = process.argv.slice(2)
const STEP = 20000
const BIG = 60000

function say (client, message) {
  client.queue('text', {
    type: 'chat', needs_translation: false, source_name: client.username, message, xuid: '', platform_chat_id: '', filtered_message: ''
  })
}

// Says `message` and waits for an answer that `accept` says yes to.
async function ask (client, message, accept) {
  const answered = heard(client, 'text', STEP, (packet) => packet.source_name === 'server' && accept(packet.message))
  say(client, message)
  await answered
}

// The library takes 40 ms to close its socket, and only that tells the server: ending before would be a crash, not a departure.
async function leave (client) {
  const raknet = client.connection.raknet
  const closed = new Promise((resolve) => {
    raknet.close = () => resolve(Object.getPrototypeOf(raknet).close.call(raknet))
  })
  client.disconnect()
  await within(STEP, 'close', closed)
}

runClient(async () => {
  const advertisement = await within(STEP, 'pong', ping({ host, port: Number(port) }))
  if (advertisement.motd !== 'compatibility suite') throw new Error(`strange advertisement: ${JSON.stringify(advertisement)}`)

  const client = createClient({
    host,
    port: Number(port),
    version,
    username: 'alice',
    offline: true,
    raknetBackend: 'raknet-native',
    // A ping has just been answered; and its reply would name the server's own port, not the public one.
    skipPing: true,
    followPort: false,
    connectTimeout: STEP,
    conLog: null
  })
  const joined = heard(client, 'join', STEP)
  // start_game would name the player's entity; this server has no world to say it in.
  client.startGameData = { runtime_entity_id: 1n }
  const spawned = heard(client, 'spawn', STEP)
  await joined
  await spawned

  await ask(client, 'hello server', (answer) => answer === 'you said: hello server')
  await ask(client, 'big please', (answer) => answer.length === BIG)
  await leave(client)
})
