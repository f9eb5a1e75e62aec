"""The compute child: `python -m workers.compute <scratch>` reads an order, does the work, prints messages.

Ends with exactly one `done` or `failed` message and exit code 0 or 1. Only the module that an order needs is
imported, so that checks start without torch.
"""

import errno
import importlib
import sys
import traceback
from pathlib import Path

from pydantic import ValidationError

from app.contracts.tasks import ORDER, CheckDatasetOrder, CheckModelOrder, Done, Failed, Order
from app.errors import BadInput, DatasetMalformed, LimitReached, ModelpressError, ModelUnsupported, ServiceFault
from app.problems import problem_of
from workers.compute.channel import Channel, take_stdout
from workers.compute.failure import FailedWithReport

# Each module has run(order, scratch, channel) -> Done.
WORK = {
    "check_model": "workers.compute.importers.check",
    "check_dataset": "workers.compute.datasets.check",
    "compress": "workers.compute.pipeline",
    "benchmark": "workers.compute.benchmarking",
    "survey": "workers.compute.surveying",
}


def perform(scratch: Path, channel: Channel) -> Done | Failed:
    """Do what `<scratch>/order.json` says and return the last message; nothing is raised."""
    order: Order | None = None
    try:
        order = ORDER.validate_json((scratch / "order.json").read_bytes())
        (scratch / "out").mkdir(exist_ok=True)
        done: Done = importlib.import_module(WORK[order.kind]).run(order, scratch, channel)
    except FailedWithReport as failure:  # a guard that was not met is a result, and leaves no trace
        return Failed(problem=problem_of(failure.error), report=failure.report)
    except ModelpressError as error:
        traceback.print_exc()  # with its cause, a library's own words: for the operators' log, never for the caller
        return Failed(problem=problem_of(error))
    except MemoryError:
        traceback.print_exc()
        return Failed(problem=problem_of(LimitReached("The memory limit was reached.")))
    except ValidationError:
        traceback.print_exc()
        return Failed(problem=problem_of(BadInput("The order, or a figure in its result, is not valid.")))
    except Exception as error:  # noqa: BLE001  # the last line of defence: whatever a library raises must become one message
        traceback.print_exc()
        if _ran_out_of_memory(error):
            return Failed(problem=problem_of(LimitReached("The memory limit was reached.")))
        return Failed(problem=problem_of(_unforeseen(order, error)))
    return done


def _unforeseen(order: Order | None, error: Exception) -> ModelpressError:
    """Return what an error without a name of its own means: a check that cannot make sense of a file refuses it.

    What the system refuses to this process is no fault of the file's.
    """
    if isinstance(error, OSError):
        return ServiceFault("An unexpected error ended the work; the log has its trace.")
    if isinstance(order, CheckModelOrder):
        return ModelUnsupported("The model makes a reader fail in a way that has no name of its own.")
    if isinstance(order, CheckDatasetOrder):
        return DatasetMalformed("The file makes a reader fail in a way that has no name of its own.")
    return ServiceFault("An unexpected error ended the work; the log has its trace.")


def _ran_out_of_memory(error: Exception) -> bool:
    """Whether this is PyTorch's or the system's way of saying so, which is no MemoryError; torch may not be loaded."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return type(error).__name__ == "OutOfMemoryError" or "DefaultCPUAllocator" in str(error)


def main(arguments: list[str]) -> int:
    """Run one order and return the exit code."""
    # The tokenizers library warns, and may deadlock, when threads meet a later fork.
    channel = take_stdout()
    last = perform(Path(arguments[0]).resolve(), channel)
    channel.say(last)
    return 0 if isinstance(last, Done) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
