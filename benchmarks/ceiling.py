"""What a core can do at most: one large product of int8 matrices through OpenVINO, as operations per CPU second.

python -m benchmarks.ceiling
"""

import json
from time import process_time

import numpy as np

from rtdscan.transforms.engines.openvino import compile_model, ops, ov  # ov: after its usage reports are switched off

SIZE = 2048
ROUNDS = 12


def main() -> None:
    random = np.random.default_rng(0)
    rows = ops.parameter([SIZE, SIZE], np.float32)
    low, high = ops.constant(np.float32(-1)), ops.constant(np.float32(1))
    weight = ops.constant(random.integers(-127, 128, (SIZE, SIZE)).astype(np.int8))
    scaled = ops.multiply(ops.convert(weight, "f32"), ops.constant(np.full((SIZE, 1), 0.01, np.float32)))
    product = ops.matmul(ops.fake_quantize(rows, low, high, low, high, 256), scaled, False, True)
    compiled = compile_model(ov.Model([ops.result(product)], [rows], "ceiling"), precision="int8", threads=1)
    infos = [op.get_rt_info() for op in compiled.get_runtime_model().get_ops()]
    kinds = {i["layerType"].astype(str): i["runtimePrecision"].astype(str) for i in infos}
    if kinds.get("FullyConnected") != "u8":
        raise RuntimeError(f"the product would not run in int8: {kinds}")
    request = compiled.create_infer_request()
    given = [random.uniform(-1, 1, (SIZE, SIZE)).astype(np.float32)]
    request.infer(given)
    best = float("inf")
    for _ in range(ROUNDS):
        started = process_time()
        request.infer(given, share_inputs=True, share_outputs=True)
        best = min(best, process_time() - started)
    print(json.dumps({"operations": 2 * SIZE**3 / best}))


if __name__ == "__main__":
    main()
