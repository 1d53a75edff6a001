"""Mixes the channels of a sound into one that is as loud as they are together, or into left and right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from vortex.types import F32, F64

POWER_SHARES: Mapping[str, float] = {
    "FL": 0.5, "FR": 0.5, "DL": 0.5, "DR": 0.5, "FC": 1.0, "LFE": 0.0, "LFE2": 0.0,
    "FLC": 0.5, "FRC": 0.5, "BL": 0.25, "BR": 0.25, "BC": 0.25, "SL": 0.25, "SR": 0.25,
    "WL": 0.25, "WR": 0.25, "TC": 0.25, "TFL": 0.25, "TFC": 0.25, "TFR": 0.25,
    "TBL": 0.25, "TBC": 0.25, "TBR": 0.25, "TSL": 0.25, "TSR": 0.25,
}  # fmt: skip
"""Channel, by FFmpeg's name of its position -> share of its power in the mix.

These are squares of the coefficients for mono in ITU-R BS.775-3, table 2: 0.7071 for left and right, 1 for
the centre, 0.5 for surround; the low-frequency channel is left out, as players do."""
BLOCK_S = 0.05
FLIPS_BELOW, RETURNS_ABOVE = -0.5, 0.0
"""Correlations with the channels before at which a channel is turned in phase, and turned back."""
MEMORY = 0.8
"""Share of the measured powers that a block takes over from its predecessor: they follow within 0.2 s."""


class Downmixer:
    """Mixes blocks of a sound, in their order, into mono float32.

    The mix has the power sum_c(share_c power_c), with :data:`POWER_SHARES`: a voice on one side only is as
    loud as it is heard, and channels in opposite phase do not cancel. Where positions are not known, the mix
    is as loud as the loudest channel. Equal channels give the same samples again.

    Args:
        positions: FFmpeg's names of the channels' positions, such as ("FL", "FR").
        rate_hz: sample rate.
    """

    def __init__(self, positions: Sequence[str], rate_hz: int) -> None:
        known = all(name in POWER_SHARES for name in positions)
        shares = np.array([POWER_SHARES[name] if known else 1.0 for name in positions])
        self._known = known and bool(shares.any())
        self._shares: F64 = shares if self._known else np.ones(len(positions))
        amplitudes = np.sqrt(self._shares)
        self._weights: F64 = amplitudes / amplitudes.sum()
        self._block = max(int(rate_hz * BLOCK_S), 256)
        self._signs = np.ones(len(positions))
        self._products: F64 | None = None
        self._gains: F32 | None = None

    def mix(self, samples: F32) -> F32:
        """Return (N, C) samples as (N,)."""
        if samples.shape[1] == 1:
            return np.ascontiguousarray(samples[:, 0])
        blocks = range(0, len(samples), self._block)
        parts = [self._mix_block(samples[first : first + self._block]) for first in blocks]
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def _mix_block(self, block: F32) -> F32:
        exact = block.astype(np.float64)
        products = exact.T @ exact
        if self._products is None:
            self._products = products
        else:
            self._products = MEMORY * self._products + products
        gains: F32 = self._channel_gains(self._products).astype(np.float32)
        before = gains if self._gains is None else self._gains
        self._gains = gains
        if np.array_equal(before, gains):
            return np.asarray(block @ gains, np.float32)
        # Gains change from one block to the next without a step, which would click.
        ramp = np.linspace(0, 1, len(block), endpoint=False, dtype=np.float32)
        return np.asarray(block @ before + ramp * (block @ (gains - before)), np.float32)

    def _channel_gains(self, products: F64) -> F64:
        """Return (C,) factors of the channels, from their products with each other (C, C)."""
        powers = np.diag(products)
        for channel in range(1, len(powers)):
            before = self._signs[:channel] * self._weights[:channel]
            power = before @ products[:channel, :channel] @ before * powers[channel]
            if power > 0:
                correlation = before @ products[:channel, channel] / np.sqrt(power)
                if correlation < FLIPS_BELOW:
                    self._signs[channel] = -1.0
                elif correlation > RETURNS_ABOVE:
                    self._signs[channel] = 1.0
        factors: F64 = self._signs * self._weights
        mixed = factors @ products @ factors
        wanted = self._shares @ powers if self._known else powers.max()
        # One channel that sounds alone needs the largest gain: as many times as there are channels.
        return factors * (min(np.sqrt(wanted / mixed), len(factors)) if mixed > 0 else 1.0)


class StereoMixer:
    """Mixes (N, C) samples into left and right; those of two channels stay as they are.

    Channels on the left count for the left, those in the middle for both sides with 0.7071 (ITU-R BS.775-3,
    annex 4); channels without a position, of more than two, also. The low-frequency channel is left out. No
    side becomes louder than full scale: all are made quieter by the same factor.
    """

    def __init__(self, positions: Sequence[str]) -> None:
        if len(positions) <= 2:
            self._weights: F32 = np.eye(len(positions), 2, dtype=np.float32)
            if len(positions) == 1:
                self._weights = np.ones((1, 2), np.float32)
            return
        middle = np.sqrt(0.5)
        rows = []
        for name in positions:
            front = 1.0 if name in ("FL", "FR", "DL", "DR") else middle
            side = (name.endswith(("L", "LC")), name.endswith(("R", "RC")))
            rows.append(
                [0.0, 0.0]
                if name.startswith("LFE")
                else [front if side[0] else 0.0, front if side[1] else 0.0]
                if any(side)
                else [middle, middle]
            )
        weights = np.array(rows)
        self._weights = (weights / max(weights.sum(axis=0).max(), 1.0)).astype(np.float32)

    def mix(self, samples: F32) -> F32:
        """Return (N, C) samples as (N, 2)."""
        return np.asarray(samples @ self._weights, np.float32)
