// Shared by the node clients and servers of this suite: events out as JSON lines, steps with a deadline, one honest exit code.
'use strict'

// The leading line feed ends whatever prompt a library has left on the line.
function report (event, fields = {}) {
  process.stdout.write('\n' + JSON.stringify({ event, ...fields }) + '\n')
}

// Resolves with `promise`, or rejects naming `what` once `ms` have passed.
function within (ms, what, promise) {
  let timer
  const late = new Promise((resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`no ${what} within ${ms} ms`)), ms)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

// Resolves with the arguments of the first `event` of `emitter` that `accept` says yes to; rejects on its `error` or `kicked`.
function heard (emitter, event, ms, accept = () => true) {
  return within(ms, event, new Promise((resolve, reject) => {
    emitter.on(event, (...args) => { if (accept(...args)) resolve(args) })
    emitter.on('error', reject)
    emitter.on('kicked', (reason) => reject(new Error(`kicked: ${JSON.stringify(reason)}`)))
  }))
}

// Runs `main` and leaves with 0 when it is done, 1 with its error otherwise.
function runClient (main) {
  main().then(() => process.exit(0), (error) => {
    console.error(error.stack)
    console.error(error.message)
    process.exit(1)
  })
}

module.exports = { report, within, heard, runClient }
