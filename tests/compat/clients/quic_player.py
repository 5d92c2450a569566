"""A QUIC player: python quic_player.py HOST PORT NAME AUTHORITY BYTES [SECONDS]

Connects to HOST and PORT as one who wants NAME, whose certificate AUTHORITY must vouch for, says so many bytes on a stream, and prints the event `heard`
with the word that came before them, all within SECONDS. It runs in the suite's virtual environment, the only place that has aioquic.
"""

import asyncio
import json
import sys

from aioquic.asyncio import connect
from aioquic.quic.configuration import QuicConfiguration

ANSWER = 15

host, port, name, authority, size, *patience = sys.argv[1:]
said = (bytes(range(256)) * (int(size) // 256 + 1))[: int(size)]


async def main():
    configuration = QuicConfiguration(is_client=True, alpn_protocols=["echo"], server_name=name)
    configuration.load_verify_locations(authority)
    async with connect(host, int(port), configuration=configuration) as connection:
        reader, writer = await connection.create_stream()
        writer.write(said)
        writer.write_eof()
        heard = await reader.read()
    word, _, rest = heard.partition(b": ")
    if rest != said:
        sys.exit(f"{len(said)} bytes came back as {len(rest)}, or others")
    print(json.dumps({"event": "heard", "word": word.decode()}), flush=True)


asyncio.run(asyncio.wait_for(main(), float(patience[0]) if patience else ANSWER))
