// Two Minecraft Java players (mineflayer) that meet on a server: node java_players.js HOST PORT VERSION [NAME]
//
// NAME is what they typed, as if DNS led from there to HOST. They report `connected` and log in and see ground under their feet; they hear the server, and each hears the other; then they leave.
'use strict'
const mineflayer = require('mineflayer')
const { report, within, heard, runClient } = require('./session')

const [host, port, version, fakeHost] = process.argv.slice(2)
const STEP = 20000

function join (username) {
  const bot = mineflayer.createBot({ host, fakeHost, port: Number(port), version, username, auth: 'offline', viewDistance: 'tiny' })
  bot._client.once('connect', () => report('connected', { player: username }))
  return bot
}

async function arrive (bot) {
  await heard(bot, 'spawn', STEP)
  await within(STEP, 'chunks', bot.waitForChunksToLoad())
  const feet = bot.entity.position.floored()
  const column = Array.from({ length: feet.y + 1 }, (_, y) => bot.blockAt(feet.offset(0, -y, 0)))
  if (!column.some((block) => block && block.name !== 'air')) throw new Error(`no ground under ${bot.username} at ${feet}`)
}

// Says `text` and waits until `listener` has heard it from the speaker.
async function say (speaker, listener, text) {
  const received = heard(listener, 'messagestr', STEP, (line) => line.includes(text) && line.includes(speaker.username))
  speaker.chat(text)
  await received
}

async function leave (bot) {
  const ended = heard(bot, 'end', STEP)
  bot.quit()
  await ended
}

runClient(async () => {
  const alice = join('alice')
  await arrive(alice)
  const bob = join('bob')
  await arrive(bob)

  const greeted = heard(alice, 'messagestr', STEP, (line) => line.includes('hello alice'))
  alice.chat('hello server')
  await greeted

  await say(alice, bob, 'good morning bob')
  await say(bob, alice, 'good morning alice')
  await leave(alice)
  await leave(bob)
})
