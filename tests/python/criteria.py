"""What counts as equal to transformers. The limits are the project's contract; the measured values are in docs/parity.md."""
import numpy as np

# Correct float32 engines that sum in other orders are 2e-7 to 1e-6 apart on these models.
FP32_TOLERANCE = 2e-5
# A drawn model may magnify float32's own rounding: its distance from fp64 tells by how much. The reference's sums, whose order
# changes with the processor that it runs on, are off by up to 4 times as much (measured on 90 drawn models, two instruction sets).
ORDER_OF_SUMS = 4
MAGNIFIED_FP32_TOLERANCE = 5e-5
# An exact emulation is as far from the reference's bfloat16 as two orders of summation are, 0.5 to 0.7 of what bfloat16 itself costs;
# float32 is 1.0 away by definition.
BF16_RATIO_LIMIT = 0.85
# Below six times the noise of bfloat16 a choice is not the reference's opinion but its rounding.
DECISIVE_GAP_IN_RMS = 6.0


def row_distances(actual, expected):
    """Relative L2 distance of each position's row, [n]."""
    assert actual.shape == expected.shape, f"shapes {actual.shape} and {expected.shape}"
    actual, expected = actual.astype(np.float64), expected.astype(np.float64)
    return np.linalg.norm(actual - expected, axis=-1) / np.linalg.norm(expected, axis=-1)


def fp32_limit(single, exact):
    """How far the reference may be from our fp32 logits `single` [n, vocab], given our fp64 ones, `exact`."""
    noise = row_distances(single, exact).max()
    return min(max(FP32_TOLERANCE, ORDER_OF_SUMS * noise), MAGNIFIED_FP32_TOLERANCE)


def clear_choices(rows, least_gap):
    """Where the two largest logits are further apart than `least_gap` of the row's norm, bool [n]."""
    ordered = np.sort(rows, axis=-1)
    return ordered[:, -1] - ordered[:, -2] > least_gap * np.linalg.norm(rows, axis=-1)


def prompt_distance(actual, expected):
    """Relative L2 distance of all positions together."""
    return float(row_distances(actual.reshape(-1), expected.reshape(-1)))


def argmax_agreement(actual, expected):
    """How many positions choose the same id; numpy gives ties to the lowest, as the reference does."""
    return int((actual.argmax(axis=-1) == expected.argmax(axis=-1)).sum())


def bf16_ratio(emulated, prompts):
    """The distance of `emulated` logits from the golden's bfloat16 over the golden's own distance from its float32, both pooled
    over all positions of all prompts. `emulated` holds [n, vocab] by prompt name."""
    ours = sum(np.square(emulated[p.name].astype(np.float64) - p.logits_bf16).sum() for p in prompts)
    own = sum(np.square(p.logits_f32.astype(np.float64) - p.logits_bf16).sum() for p in prompts)
    return float(np.sqrt(ours / own))


def decisive_steps(prompt):
    """Which greedy steps of the golden's bfloat16 run are decided by more than its noise, bool [steps]."""
    noise = np.sqrt(np.mean(np.square(prompt.logits_bf16.astype(np.float64) - prompt.logits_f32)))
    return prompt.top5_bf16[:, 0] - prompt.top5_bf16[:, 1] > DECISIVE_GAP_IN_RMS * noise


def greedy_disagreements(emulated_steps, prompt):
    """The decisive steps at which `emulated_steps` [steps, vocab], fed the golden's tokens, choose another token."""
    wrong = emulated_steps.argmax(axis=-1) != prompt.greedy_bf16
    return np.flatnonzero(wrong & decisive_steps(prompt)).tolist()
