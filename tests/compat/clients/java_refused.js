// A Minecraft Java player (minecraft-protocol) who is not let in: node java_refused.js HOST PORT VERSION NAME
//
// NAME is what they typed, as if DNS led from there to HOST. Reports `refused` with the words that the game shows.
'use strict'
const protocol = require('minecraft-protocol')
const { report, within, runClient } = require('./session')

const [host, port, version, fakeHost] = process.argv.slice(2)
const STEP = 20000

// All text of a chat component, whether it came as JSON or as NBT.
function words (component) {
  if (typeof component === 'string') return component
  if (!component || typeof component !== 'object') return ''
  return Object.entries(component).map(([key, value]) => key === 'type' ? '' : words(value)).join('')
}

runClient(async () => {
  const client = protocol.createClient({ host, port: Number(port), version, username: 'alice', auth: 'offline', fakeHost })
  const reason = await within(STEP, 'words', new Promise((resolve, reject) => {
    client.on('disconnect', (packet) => resolve(packet.reason))
    client.on('success', () => reject(new Error('let in')))
    client.on('error', reject)
    client.on('end', () => reject(new Error('sent away without words')))
  }))
  report('refused', { words: words(JSON.parse(reason)) })
})
