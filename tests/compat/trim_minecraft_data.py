#!/usr/bin/env python3
"""Deletes the data of all Minecraft versions but those the suite plays: 360 of 600 MB of the node packages. `install` runs it."""

import json
import shutil

from cases import minecraft_bedrock, minecraft_java
from harness import NODE_MODULES

DATA = NODE_MODULES / "minecraft-data" / "minecraft-data" / "data"
# Version 1.16.2 is what prismarine-chunk reads for every 1.16.
PLAYED = {"pc": [*minecraft_java.VERSIONS.values(), "1.16.2"], "bedrock": [minecraft_bedrock.VERSION]}
# Read whatever the version.
ALWAYS = ["pc/common", "bedrock/common", "bedrock/latest"]


def main():
    paths = json.loads((DATA / "dataPaths.json").read_text())
    kept = {DATA / path for path in ALWAYS}
    for edition, versions in PLAYED.items():
        for version in versions:
            kept |= {DATA / path for path in paths[edition][version].values()}
    for edition in PLAYED:
        for folder in (DATA / edition).iterdir():
            if folder not in kept:
                shutil.rmtree(folder)


if __name__ == "__main__":
    main()
