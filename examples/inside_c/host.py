#!/usr/bin/env python3
"""polyloop inside an asyncio program.

usage: host.py LIBRARY    (cargo build --release -p polyloop-inside-c)

asyncio watches polyloop's descriptor, and calls `plugin_turn` when it is readable. A client on asyncio uses an
echo server on polyloop, while a clock on polyloop ticks.
"""

import asyncio
import ctypes
import sys


async def main(path):
    plugin = ctypes.CDLL(path)
    n_turns = 0

    def turn():
        nonlocal n_turns
        n_turns += 1
        if plugin.plugin_turn() != 0:
            raise RuntimeError("the plugin failed")

    # This is all the integration there is.
    fd = plugin.plugin_start()
    asyncio.get_running_loop().add_reader(fd, turn)

    reader, writer = await asyncio.open_connection("127.0.0.1", plugin.plugin_port())
    for word in [b"one", b"two", b"three"]:
        writer.write(word)
        echo = await reader.readexactly(len(word))
        await asyncio.sleep(0.03)
        print("the plugin echoed", echo.decode())
    writer.close()
    await asyncio.sleep(0.1)
    print("ticks:", plugin.plugin_ticks(), "turns:", n_turns)

    asyncio.get_running_loop().remove_reader(fd)
    plugin.plugin_stop()


asyncio.run(main(sys.argv[1]))
