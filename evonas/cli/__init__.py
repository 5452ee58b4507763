"""The command line: `evonas search | resume | show | plot | problems | space | compare | table`."""

from __future__ import annotations

import sys

from evonas.errors import EvonasError

__all__ = ["main"]


def main(args: list[str] | None = None) -> None:
    """Run the command line; errors are one line on stderr and exit code 2."""
    try:
        from evonas.cli import study  # noqa: F401  # adds its commands
        from evonas.cli.commands import app

        code = app(args, standalone_mode=False)
    except EvonasError as error:
        sys.exit(_complain(str(error)))
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
    except OSError as error:  # a full disk, or a folder that may not be written to
        what = f"{error.filename}: {error.strerror}" if error.filename else error.strerror or error
        sys.exit(_complain(f"{what}; mend that and run it again: what was recorded is kept"))
    except Exception as error:
        # typer's own complaints about the command line: the class moved between its versions
        if not hasattr(error, "format_message"):
            raise
        message = error.format_message()
        command = getattr(getattr(error, "ctx", None), "command_path", None) or "evonas"
        sys.exit(_complain(f"{message} See `{command} --help`.") if message else 2)
    sys.exit(code if isinstance(code, int) else 0)


def _complain(message: str) -> int:
    print("evonas: " + " ".join(message.split()), file=sys.stderr)
    return 2
