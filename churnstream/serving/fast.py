"""LightGBM for one row at a time, without the price of a matrix: bit for bit what ``Booster.predict`` says.

``Booster.predict`` spends some twenty times longer on taking a row in than on its trees. LightGBM's C API has a call for exactly
this (``LGBM_BoosterPredictForMatSingleRowFast``): everything that does not change is prepared once, and a row is written into a
buffer that both sides know.
"""

import ctypes
import weakref
from collections.abc import Sequence

import lightgbm as lgb
from lightgbm.basic import _LIB, _safe_call  # type: ignore[attr-defined]

ROW_OF_DOUBLES, NORMAL, RAW = 1, 0, 1  # the C API's words for the type of the data and for what is predicted
ALL_TREES = -1
PARAMETERS = b"num_threads=1"  # two threads make one row four times slower


class FastRow:
    """``row(values)`` is the prediction for one row of as many numbers as the model has features.

    One buffer serves every call, so one thread at a time may use it. Raises LightGBMError where the model takes another number of
    features.
    """

    def __init__(self, booster: lgb.Booster, columns: int, raw: bool = False):
        self._booster = booster  # lives as long as this does: the prepared call points into it
        self.values = (ctypes.c_double * columns)()
        self._out, self._length = ctypes.c_double(), ctypes.c_int64()
        config = ctypes.c_void_p()
        prepare = _LIB.LGBM_BoosterPredictForMatSingleRowFastInit
        kind = ctypes.c_int(RAW if raw else NORMAL)
        shape = ctypes.c_int(ROW_OF_DOUBLES), ctypes.c_int32(columns)
        _safe_call(
            prepare(booster._handle, kind, ctypes.c_int(0), ctypes.c_int(ALL_TREES), *shape, PARAMETERS, ctypes.byref(config))
        )
        weakref.finalize(self, _LIB.LGBM_FastConfigFree, config)
        self._predict = _LIB.LGBM_BoosterPredictForMatSingleRowFast
        self._arguments = (config, self.values, ctypes.byref(self._length), ctypes.byref(self._out))

    def __call__(self, values: Sequence[float]) -> float:
        """The prediction for ``values``: numbers, NaN where one is missing; raises TypeError or ValueError for anything else."""
        self.values[:] = values  # type: ignore[call-overload]
        if self._predict(*self._arguments):
            raise lgb.basic.LightGBMError(_LIB.LGBM_GetLastError().decode())
        return self._out.value
