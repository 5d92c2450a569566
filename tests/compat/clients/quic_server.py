"""A QUIC server that answers each stream with its own word before what it heard: python quic_server.py HOST PORT CERTIFICATE KEY WORD

Prints the event `ready`. It runs in the suite's virtual environment, the only place that has aioquic.
"""

import asyncio
import json
import sys

from aioquic.asyncio import serve
from aioquic.quic.configuration import QuicConfiguration

host, port, certificate, key, word = sys.argv[1:]


async def answer(reader, writer):
    heard = await reader.read()
    writer.write(f"{word}: ".encode() + heard)
    writer.write_eof()


async def main():
    configuration = QuicConfiguration(is_client=False, alpn_protocols=["echo"])
    configuration.load_cert_chain(certificate, key)
    await serve(host, int(port), configuration=configuration, stream_handler=lambda *stream: asyncio.ensure_future(answer(*stream)))
    print(json.dumps({"event": "ready"}), flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
