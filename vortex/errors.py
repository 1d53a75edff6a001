"""Every error that vortex raises on purpose.

VortexError
├── InputError (ValueError)        the caller can fix it by giving something else
│   ├── ImageError
│   │   └── NoFaceError
│   ├── AudioError
│   ├── UnknownPresetError
│   └── UnknownPhonemeError
├── WeightsError
│   ├── WeightsMissingError
│   └── WeightsCorruptError
├── EngineError
│   ├── DeviceUnavailableError
│   ├── PrecisionUnsupportedError
│   └── OutOfMemoryError
├── EncodeError
├── StageTimeoutError
└── MissingExtraError (ImportError)

A message says what we got, what we accept, and the next step.

VortexWarning is what vortex warns of while it goes on; the command line prints no other warnings.
"""


class VortexError(Exception):
    """Root of all errors raised by vortex."""


class InputError(VortexError, ValueError):
    """An argument, a file or a value that the caller has to change."""


class ImageError(InputError):
    """A picture that cannot be read or used."""


class NoFaceError(ImageError):
    """A picture without a usable face."""


class AudioError(InputError):
    """A sound that cannot be read or used."""


class UnknownPresetError(InputError):
    """A preset name or sequence that vortex does not know."""


class UnknownPhonemeError(InputError):
    """A phoneme outside the ARPAbet inventory."""


class WeightsError(VortexError):
    """Trouble with downloaded network weights."""


class WeightsMissingError(WeightsError):
    """Weights that were never fetched."""


class WeightsCorruptError(WeightsError):
    """Weights whose size, hash or content is wrong."""


class EngineError(VortexError):
    """An engine that cannot run here."""


class DeviceUnavailableError(EngineError):
    """A compute device that this machine or build lacks."""


class PrecisionUnsupportedError(EngineError):
    """A number format that the device cannot compute in."""


class OutOfMemoryError(EngineError):
    """Not enough memory, of the machine or of the device, for the requested work."""


class EncodeError(VortexError):
    """A video that could not be written."""


class StageTimeoutError(VortexError):
    """A stage, or all of them, that took longer than it was given."""


class MissingExtraError(VortexError, ImportError):
    """An optional package that is not installed."""


class VortexWarning(UserWarning):
    """Something to know about an input or a machine, though the work goes on."""


def in_one_line(error: BaseException) -> str:
    """Return what an error says, in one line; its name if it says nothing."""
    return " ".join((str(error) or type(error).__name__).split())
