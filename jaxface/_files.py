"""Writing a file in one step."""

import os
import secrets
from pathlib import Path


def replace_file(path: Path, data: bytes) -> None:
    """Writes a file under its name only once it is complete; an older one stays until then.

    Raises:
        OSError: the folder is missing, or the file cannot be written; nothing is left over.
    """
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
