"""Triton kernels: all arithmetic of one time step of a recurrent cell except its matrix products, on a GPU.

A program computes BLOCK units of one row. Row b has tokens at the times t < lengths[b]. After its end, whatever the
kernels write for products is zero. Time comes first: `projected` W x + b and `gates` are [T, B, G·D]; `hidden` and
`cells` are [T + 1, B, D] and begin with the first state. Sums are in float32, whatever the products' dtype is. `*_low`
is the same in the products' dtype if that is another one, else None.

Backward kernels get the gradient at h_t in three parts: `by_next`, from the products of step t + 1 [B, D],
`d_outputs` [T, B, D], and `d_last` [B, D], at the state after the row's last token.

Only `fast_steps` imports this file, and only where there is a GPU.
"""

# in a try, where transformers allows what is not installed: it reads the imports of a checkpoint's code
try:
    import triton
    import triton.language as tl
except ImportError:
    raise


@triton.jit
def place(lengths, t, size, BLOCK: tl.constexpr):
    """The row, its index at time t, its length, its units and which of these exist."""
    row = tl.program_id(0).to(tl.int64)
    units = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    return row, t.to(tl.int64) * tl.num_programs(0) + row, tl.load(lengths + row), units, units < size


@triton.jit
def those(units, size, is_so):
    """Which units exist, if `is_so` holds of the row; otherwise none."""
    return units < tl.where(is_so, size, 0)


@triton.jit
def read(pointers, mask):
    """float32 numbers; zero where the mask is False."""
    return tl.load(pointers, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def write(pointers, values, mask):
    tl.store(pointers, values.to(pointers.dtype.element_ty), mask=mask)


@triton.jit
def tanh(a):
    """By a series where 1 − exp(−2 |a|) would lose digits."""
    square = a * a
    series = 62.0 / 2835.0
    series = -17.0 / 315.0 + square * series
    series = 2.0 / 15.0 + square * series
    series = -1.0 / 3.0 + square * series
    small = a + a * square * series
    decay = tl.exp(-2.0 * tl.abs(a))
    large = (1.0 - decay) / (1.0 + decay)
    return tl.where(square < 0.0625, small, tl.where(a < 0.0, -large, large))


@triton.jit
def clipped(a, CLIP: tl.constexpr):
    """Keeps NaN, as clamp does."""
    return tl.where(a > CLIP, CLIP, tl.where(a < -CLIP, -CLIP, a))


@triton.jit
def through_clip(d, a, CLIP: tl.constexpr):
    """The gradient before the clip from the gradient `d` at its result `a`."""
    return tl.where((a >= CLIP) | (a <= -CLIP), 0.0, d)


@triton.jit
def gate_sum(projected, recurrent, row, now, units, mask, size, GATE: tl.constexpr, GATES: tl.constexpr):
    """W x_t + b + U h_{t−1} of one gate."""
    x = read(projected + (now * GATES + GATE) * size + units, mask)
    return x + read(recurrent + (row * GATES + GATE) * size + units, mask)


@triton.jit
def d_hidden(by_next, d_outputs, d_last, row, now, t, length, units, size):
    """The gradient at h_t."""
    later = read(by_next + row * size + units, those(units, size, t + 1 < length))
    last = read(d_last + row * size + units, those(units, size, t + 1 == length))
    return later + last + read(d_outputs + now * size + units, those(units, size, t < length))


@triton.jit(do_not_specialize=["t"])
def lstm_forward(
    projected,
    recurrent,  # U h_{t−1} [B, G·D]
    seen_before,  # with full peepholes: what the updating gates see of c_{t−1} [B, (G − 2)·D]
    seen_after,  # and the output gate of c_t [B, D]
    peepholes,  # diagonal ones [G − 1, D]
    gates,
    cells,
    cells_low,
    exposed,  # o ⊙ tanh(c_t) [T, B, D], which a projection reads; None: it is h_t
    hidden,
    hidden_low,
    lengths,
    t,
    size,
    PEEPHOLE: tl.constexpr,
    COUPLED: tl.constexpr,
    CELL_CLIP: tl.constexpr,
    OF_CELL: tl.constexpr,
    OF_OUTPUT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """c_t, h_t and the gates; full peepholes need c_t (OF_CELL) before the output gate (OF_OUTPUT)."""
    row, now, length, units, inside = place(lengths, t, size, BLOCK)
    mask = those(units, size, t < length)
    UPDATES: tl.constexpr = 2 if COUPLED == "" else 1
    GATES: tl.constexpr = UPDATES + 2
    gate = gates + now * GATES * size + units
    after = (now + tl.num_programs(0)) * size + units

    if OF_CELL:
        c_before = read(cells + now * size + units, mask)
        a = gate_sum(projected, recurrent, row, now, units, mask, size, 0, GATES)
        if PEEPHOLE == "diagonal":
            a += read(peepholes + units, inside) * c_before
        if PEEPHOLE == "full":
            a += read(seen_before + row * UPDATES * size + units, mask)
        g = tanh(gate_sum(projected, recurrent, row, now, units, mask, size, UPDATES, GATES))
        if COUPLED == "input":
            i = tl.sigmoid(a)
            c = (1.0 - i) * c_before + i * g
            write(gate, i, mask)
        elif COUPLED == "forget":
            f = tl.sigmoid(a)
            c = f * c_before + (1.0 - f) * g
            write(gate, f, mask)
        else:
            i = tl.sigmoid(a)
            a = gate_sum(projected, recurrent, row, now, units, mask, size, 1, GATES)
            if PEEPHOLE == "diagonal":
                a += read(peepholes + size + units, inside) * c_before
            if PEEPHOLE == "full":
                a += read(seen_before + (row * UPDATES + 1) * size + units, mask)
            f = tl.sigmoid(a)
            c = f * c_before + i * g
            write(gate, i, mask)
            write(gate + size, f, mask)
        if CELL_CLIP is not None:
            c = clipped(c, CELL_CLIP)
        c = tl.where(mask, c, 0.0)
        write(gate + UPDATES * size, g, mask)
        write(cells + after, c, inside)
        if cells_low is not None:
            write(cells_low + after, c, inside)
    else:
        c = read(cells + after, mask)

    if OF_OUTPUT:
        a = gate_sum(projected, recurrent, row, now, units, mask, size, UPDATES + 1, GATES)
        if PEEPHOLE == "diagonal":
            a += read(peepholes + UPDATES * size + units, inside) * c
        if PEEPHOLE == "full":
            a += read(seen_after + row * size + units, mask)
        o = tl.sigmoid(a)
        h = tl.where(mask, o * tanh(c), 0.0)
        write(gate + (UPDATES + 1) * size, o, mask)
        if exposed is not None:
            write(exposed + now * size + units, h, inside)
        else:
            write(hidden + after, h, inside)
            if hidden_low is not None:
                write(hidden_low + after, h, inside)


@triton.jit(do_not_specialize=["t"])
def lstm_backward(
    by_next,  # with a projection: the whole gradient at o ⊙ tanh(c_t)
    d_outputs,
    d_last,
    d_last_cells,  # [B, D]
    by_updates,  # with full peepholes: the gradient at c_t from the updating gates of step t + 1 [B, D]
    by_output_gate,  # and from this step's output gate [B, D]
    d_cells,  # carried from step to step [B, D]
    d_gates,
    peepholes,
    gates,
    cells,
    lengths,
    t,
    size,
    PROJECTS: tl.constexpr,
    PEEPHOLE: tl.constexpr,
    COUPLED: tl.constexpr,
    CELL_CLIP: tl.constexpr,
    OF_CELL: tl.constexpr,
    OF_OUTPUT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The gradients at the sums of the gates and at c_{t−1}; the output gate comes first."""
    row, now, length, units, inside = place(lengths, t, size, BLOCK)
    mask = those(units, size, t < length)
    UPDATES: tl.constexpr = 2 if COUPLED == "" else 1
    GATES: tl.constexpr = UPDATES + 2
    gate, d_gate = gates + now * GATES * size + units, d_gates + now * GATES * size + units
    carried = d_cells + row * size + units
    c = read(cells + (now + tl.num_programs(0)) * size + units, mask)

    if OF_OUTPUT:
        if PROJECTS:
            d_h = read(by_next + row * size + units, mask)
        else:
            d_h = d_hidden(by_next, d_outputs, d_last, row, now, t, length, units, size)
        d_c = read(carried, those(units, size, t + 1 < length))
        d_c += read(d_last_cells + row * size + units, those(units, size, t + 1 == length))
        if PEEPHOLE == "full":
            d_c += read(by_updates + row * size + units, those(units, size, t + 1 < length))
        # h = o ⊙ tanh(c)
        o = read(gate + (UPDATES + 1) * size, mask)
        tanh_c = tanh(c)
        d_o = d_h * tanh_c * o * (1.0 - o)
        d_c += d_h * o * (1.0 - tanh_c * tanh_c)
        if PEEPHOLE == "diagonal":
            d_c += d_o * read(peepholes + UPDATES * size + units, inside)
        write(d_gate + (UPDATES + 1) * size, d_o, inside)
    else:
        d_c = read(carried, mask) + read(by_output_gate + row * size + units, mask)

    if OF_CELL:
        if CELL_CLIP is not None:
            d_c = through_clip(d_c, c, CELL_CLIP)
        c_before = read(cells + now * size + units, mask)
        g = read(gate + UPDATES * size, mask)
        if COUPLED == "input":
            # c = (1 − i) ⊙ c_before + i ⊙ g
            i = read(gate, mask)
            d_update = d_c * (g - c_before) * i * (1.0 - i)
            d_g = d_c * i
            d_c *= 1.0 - i
        elif COUPLED == "forget":
            # c = f ⊙ c_before + (1 − f) ⊙ g
            f = read(gate, mask)
            d_update = d_c * (c_before - g) * f * (1.0 - f)
            d_g = d_c * (1.0 - f)
            d_c *= f
        else:
            # c = f ⊙ c_before + i ⊙ g
            i, f = read(gate, mask), read(gate + size, mask)
            d_update = d_c * g * i * (1.0 - i)
            d_f = d_c * c_before * f * (1.0 - f)
            d_g = d_c * i
            d_c *= f
            if PEEPHOLE == "diagonal":
                d_c += d_f * read(peepholes + size + units, inside)
            write(d_gate + size, d_f, inside)
        if PEEPHOLE == "diagonal":
            d_c += d_update * read(peepholes + units, inside)
        write(d_gate, d_update, inside)
        write(d_gate + UPDATES * size, d_g * (1.0 - g * g), inside)
    write(carried, d_c, mask)


@triton.jit(do_not_specialize=["t"])
def projection_forward(product, hidden, hidden_low, lengths, t, size, CLIP: tl.constexpr, BLOCK: tl.constexpr):
    """h_t, clipped, of R (o ⊙ tanh(c_t)) [B, P]; here `size` is P."""
    row, now, length, units, inside = place(lengths, t, size, BLOCK)
    h = read(product + row * size + units, those(units, size, t < length))
    if CLIP is not None:
        h = clipped(h, CLIP)
    after = (now + tl.num_programs(0)) * size + units
    write(hidden + after, h, inside)
    if hidden_low is not None:
        write(hidden_low + after, h, inside)


@triton.jit(do_not_specialize=["t"])
def projection_backward(
    by_next,
    d_outputs,
    d_last,
    d_product,  # [T, B, P]
    hidden,
    lengths,
    t,
    size,
    CLIP: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The gradient at R (o ⊙ tanh(c_t))."""
    row, now, length, units, inside = place(lengths, t, size, BLOCK)
    d_h = d_hidden(by_next, d_outputs, d_last, row, now, t, length, units, size)
    if CLIP is not None:
        h = read(hidden + (now + tl.num_programs(0)) * size + units, those(units, size, t < length))
        d_h = through_clip(d_h, h, CLIP)
    write(d_product + now * size + units, d_h, inside)


@triton.jit(do_not_specialize=["t"])
def gru_gates_forward(
    projected,
    recurrent,  # U_r h_{t−1} and U_z h_{t−1} [B, 2·D]
    gates,
    resets,  # r ⊙ h_{t−1} [T, B, D]
    hidden,
    lengths,
    t,
    size,
    BLOCK: tl.constexpr,
):
    """The gates r and z, and r ⊙ h_{t−1}."""
    row, now, length, units, inside = place(lengths, t, size, BLOCK)
    mask = those(units, size, t < length)
    x, u = projected + now * 3 * size + units, recurrent + row * 2 * size + units
    r = tl.sigmoid(read(x, mask) + read(u, mask))
    z = tl.sigmoid(read(x + size, mask) + read(u + size, mask))
    h_before = read(hidden + now * size + units, mask)
    write(gates + now * 3 * size + units, r, mask)
    write(gates + (now * 3 + 1) * size + units, z, mask)
    write(resets + now * size + units, r * h_before, inside)


@triton.jit(do_not_specialize=["t"])
def gru_state_forward(
    projected,
    recurrent,  # U (r ⊙ h_{t−1}) of the candidate [B, D]
    gates,
    hidden,
    hidden_low,
    lengths,
    t,
    size,
    KEEPS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The candidate and h_t."""
    row, now, length, units, inside = place(lengths, t, size, BLOCK)
    mask = those(units, size, t < length)
    z = read(gates + (now * 3 + 1) * size + units, mask)
    h_before = read(hidden + now * size + units, mask)
    x = read(projected + (now * 3 + 2) * size + units, mask)
    candidate = tanh(x + read(recurrent + row * size + units, mask))
    if KEEPS:
        h = z * h_before + (1.0 - z) * candidate
    else:
        h = (1.0 - z) * h_before + z * candidate
    h = tl.where(mask, h, 0.0)
    write(gates + (now * 3 + 2) * size + units, candidate, mask)
    after = (now + tl.num_programs(0)) * size + units
    write(hidden + after, h, inside)
    if hidden_low is not None:
        write(hidden_low + after, h, inside)


@triton.jit(do_not_specialize=["t"])
def gru_state_backward(
    by_next,
    d_outputs,
    d_last,
    d_kept,  # the gradient at h_{t−1} that passes by the products, carried from step to step [B, D]
    d_gates,
    gates,
    hidden,
    lengths,
    t,
    size,
    KEEPS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The gradients at the sums of z and the candidate."""
    row, now, length, units, inside = place(lengths, t, size, BLOCK)
    mask = those(units, size, t < length)
    kept = d_kept + row * size + units
    d_h = d_hidden(by_next, d_outputs, d_last, row, now, t, length, units, size)
    d_h += read(kept, those(units, size, t + 1 < length))
    z = read(gates + (now * 3 + 1) * size + units, mask)
    candidate = read(gates + (now * 3 + 2) * size + units, mask)
    h_before = read(hidden + now * size + units, mask)
    if KEEPS:
        # h = z ⊙ h_before + (1 − z) ⊙ candidate
        d_z = d_h * (h_before - candidate)
        d_candidate = d_h * (1.0 - z)
        d_before = d_h * z
    else:
        # h = (1 − z) ⊙ h_before + z ⊙ candidate
        d_z = d_h * (candidate - h_before)
        d_candidate = d_h * z
        d_before = d_h * (1.0 - z)
    write(d_gates + (now * 3 + 1) * size + units, d_z * z * (1.0 - z), inside)
    write(d_gates + (now * 3 + 2) * size + units, d_candidate * (1.0 - candidate * candidate), inside)
    write(kept, d_before, mask)


@triton.jit(do_not_specialize=["t"])
def gru_gates_backward(
    d_reset,  # the gradient at r ⊙ h_{t−1} [B, D]
    d_kept,
    d_gates,
    gates,
    hidden,
    lengths,
    t,
    size,
    BLOCK: tl.constexpr,
):
    """The gradient at the sum of r; the reset state's part is added to `d_kept`."""
    row, now, length, units, inside = place(lengths, t, size, BLOCK)
    mask = those(units, size, t < length)
    kept = d_kept + row * size + units
    by_reset = read(d_reset + row * size + units, mask)
    r = read(gates + now * 3 * size + units, mask)
    h_before = read(hidden + now * size + units, mask)
    write(d_gates + now * 3 * size + units, by_reset * h_before * r * (1.0 - r), inside)
    write(kept, read(kept, mask) + by_reset * r, mask)


@triton.jit(do_not_specialize=["t"])
def rnn_forward(projected, recurrent, hidden, hidden_low, lengths, t, size, BLOCK: tl.constexpr):
    """h_t = σ(W x_t + b + U h_{t−1})."""
    row, now, length, units, inside = place(lengths, t, size, BLOCK)
    mask = those(units, size, t < length)
    h = tl.where(mask, tl.sigmoid(gate_sum(projected, recurrent, row, now, units, mask, size, 0, 1)), 0.0)
    after = (now + tl.num_programs(0)) * size + units
    write(hidden + after, h, inside)
    if hidden_low is not None:
        write(hidden_low + after, h, inside)


@triton.jit(do_not_specialize=["t"])
def rnn_backward(by_next, d_outputs, d_last, d_sums, hidden, lengths, t, size, BLOCK: tl.constexpr):
    """The gradient at W x_t + b + U h_{t−1}."""
    row, now, length, units, inside = place(lengths, t, size, BLOCK)
    d_h = d_hidden(by_next, d_outputs, d_last, row, now, t, length, units, size)
    h = read(hidden + (now + tl.num_programs(0)) * size + units, those(units, size, t < length))
    write(d_sums + now * size + units, d_h * h * (1.0 - h), inside)
