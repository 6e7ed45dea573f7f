"""The transforms of Winograd's convolution F(4x4, 3x3), on vectors of channels.

The correlation of six inputs d with three weights g, which gives four neighbouring results y, is
the transpose of a product of polynomials. Such a product is determined by its values at a few
interpolation nodes: here 0, 1, -1, 2, -2 and infinity. So 6 multiplications replace 12,

    y = A.T [ (G g) * (B.T d) ]                      * is elementwise

        [ 4  0 -5  0  1  0 ]        [  1/4    0     0  ]
        [ 0 -4 -4  1  1  0 ]        [ -1/6  -1/6  -1/6 ]         [ 1  1  1  1  1  0 ]
    B.T=[ 0  4 -4 -1  1  0 ]    G = [ -1/6   1/6  -1/6 ]   A.T = [ 0  1 -1  2 -2  0 ]
        [ 0 -2 -1  2  1  0 ]        [  1/24  1/12  1/6 ]         [ 0  1  1  4  4  0 ]
        [ 0  2 -1 -2  1  0 ]        [  1/24 -1/12  1/6 ]         [ 0  1 -1  8 -8  1 ]
        [ 0  4  0 -5  0  1 ]        [   0     0     1  ]

Row k of B.T has the coefficients of the product of all (t - node) without the k-th (for infinity,
of all of them); row k of G and column k of A.T have the powers of the k-th node, G divided by the
product of its distances from the other nodes.

Images are transformed along columns, then along rows: a tile of 6 x 6 pixels gives 4 x 4 results by
36 multiplications instead of 144. For C channels and K filters, each of the 36 becomes a matrix
product. The transforms are linear maps, so backward uses their transposes: A for the gradient of y,
G.T for the gradient of g.

Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", arXiv:1509.09308;
Winograd, "Arithmetic Complexity of Computations", SIAM 1980.
"""

from minise.ops.jit.compiler.compile import device_function
from minise.ops.jit.vector.simd import fma, lanes_of, load, store

OUT, TAP = 4, 3  # results and weights along one axis of a tile
IN = OUT + TAP - 1  # pixels along one axis of a tile
POINTS = IN * IN  # products of a tile


@device_function
def _inputs(d0, d1, d2, d3, d4, d5):
    """Return B.T d."""
    even, odd = fma(-4.0, d2, d4), fma(-4.0, d1, d3)
    difference, twice = d4 - d2, 2.0 * (d3 - d1)
    first, last = fma(4.0, d0, fma(-5.0, d2, d4)), fma(4.0, d1, fma(-5.0, d3, d5))
    return first, even + odd, even - odd, difference + twice, difference - twice, last


@device_function
def _outputs(m0, m1, m2, m3, m4, m5):
    """Return A.T m."""
    sum1, difference1, sum2, difference2 = m1 + m2, m1 - m2, m3 + m4, m3 - m4
    second, third = fma(2.0, difference2, difference1), fma(4.0, sum2, sum1)
    return m0 + sum1 + sum2, second, third, fma(8.0, difference2, difference1) + m5


@device_function
def _douts(y0, y1, y2, y3):
    """Return A y."""
    even, odd = y0 + y2, y1 + y3
    far, farther = fma(4.0, y2, y0), 2.0 * fma(4.0, y3, y1)
    return y0, even + odd, even - odd, far + farther, far - farther, y3


@device_function
def _weights(g0, g1, g2):
    """Return G g."""
    ends, twelfth = g0 + g2, (1 / 12) * g1
    far = (1 / 24) * fma(4.0, g2, g0)
    second, third = (-1 / 6) * (ends + g1), (-1 / 6) * (ends - g1)
    return 0.25 * g0, second, third, far + twelfth, far - twelfth, g2


@device_function
def _dweights(u0, u1, u2, u3, u4, u5):
    """Return G.T u."""
    sum1, difference1, sum2, difference2 = u1 + u2, u2 - u1, u3 + u4, u3 - u4
    first = fma(0.25, u0, fma(1 / 24, sum2, (-1 / 6) * sum1))
    return first, fma(1 / 12, difference2, (1 / 6) * difference1), fma(1 / 6, sum2 - sum1, u5)


@device_function
def _store_points(p0, p1, p2, p3, p4, p5, points, at, plane):
    """Store one row of a tile's points at a distance of `plane` elements."""
    store(p0, points, at)
    store(p1, points, at + plane)
    store(p2, points, at + 2 * plane)
    store(p3, points, at + 3 * plane)
    store(p4, points, at + 4 * plane)
    store(p5, points, at + 5 * plane)


@device_function
def transform_inputs(band, at, wide, C, tiles, half, points, to, stride, plane):
    """Transform the pixels of a row of tiles: B.T d B.

    band has six rows of `wide` pixels of C channels; results are stored in
    points[point * plane + to + tile * stride + c]. Columns come first, for all tiles at once, since
    neighbouring tiles share two of their six columns.
    """
    lanes, row = lanes_of(band.dtype), wide * C
    for i in range(0, row, lanes):
        d0, d1, d2 = load(band, at + i), load(band, at + row + i), load(band, at + 2 * row + i)
        d3, d4 = load(band, at + 3 * row + i), load(band, at + 4 * row + i)
        d0, d1, d2, d3, d4, d5 = _inputs(d0, d1, d2, d3, d4, load(band, at + 5 * row + i))
        store(d0, half, i)
        store(d1, half, row + i)
        store(d2, half, 2 * row + i)
        store(d3, half, 3 * row + i)
        store(d4, half, 4 * row + i)
        store(d5, half, 5 * row + i)
    for r in range(IN):
        for tile in range(tiles):
            for c in range(0, C, lanes):
                p = r * row + tile * OUT * C + c
                d0, d1, d2 = load(half, p), load(half, p + C), load(half, p + 2 * C)
                d3, d4, d5 = load(half, p + 3 * C), load(half, p + 4 * C), load(half, p + 5 * C)
                p0, p1, p2, p3, p4, p5 = _inputs(d0, d1, d2, d3, d4, d5)
                q = r * IN * plane + to + tile * stride + c
                _store_points(p0, p1, p2, p3, p4, p5, points, q, plane)


@device_function
def _column(sums, at, plane):
    """Return A.T m of one column of a tile's products."""
    down = IN * plane
    m0, m1, m2 = load(sums, at), load(sums, at + down), load(sums, at + 2 * down)
    m3, m4 = load(sums, at + 3 * down), load(sums, at + 4 * down)
    return _outputs(m0, m1, m2, m3, m4, load(sums, at + 5 * down))


@device_function
def _store_row(m0, m1, m2, m3, m4, m5, out, at, pixel, columns):
    """Store A.T m of one row of a tile: the first `columns` results, `pixel` elements apart."""
    y0, y1, y2, y3 = _outputs(m0, m1, m2, m3, m4, m5)
    store(y0, out, at)
    if columns > 1:
        store(y1, out, at + pixel)
    if columns > 2:
        store(y2, out, at + 2 * pixel)
    if columns > 3:
        store(y3, out, at + 3 * pixel)


@device_function
def transform_outputs(sums, at, stride, plane, K, tiles, rows, columns, out, to, pixel, row):
    """Transform the products of a row of tiles, A.T m A; store `rows`, `columns` of it in out.

    Products are read from sums[point * plane + at + tile * stride + k], results stored at distances
    of `pixel` elements from pixel to pixel and `row` from row to row.
    """
    lanes = lanes_of(sums.dtype)
    for tile in range(tiles):
        inside = min(OUT, columns - tile * OUT)
        for k in range(0, K, lanes):
            m, q = at + tile * stride + k, to + tile * OUT * pixel + k
            a0, a1, a2, a3 = _column(sums, m, plane)
            b0, b1, b2, b3 = _column(sums, m + plane, plane)
            c0, c1, c2, c3 = _column(sums, m + 2 * plane, plane)
            d0, d1, d2, d3 = _column(sums, m + 3 * plane, plane)
            e0, e1, e2, e3 = _column(sums, m + 4 * plane, plane)
            f0, f1, f2, f3 = _column(sums, m + 5 * plane, plane)
            _store_row(a0, b0, c0, d0, e0, f0, out, q, pixel, inside)
            if rows > 1:
                _store_row(a1, b1, c1, d1, e1, f1, out, q + row, pixel, inside)
            if rows > 2:
                _store_row(a2, b2, c2, d2, e2, f2, out, q + 2 * row, pixel, inside)
            if rows > 3:
                _store_row(a3, b3, c3, d3, e3, f3, out, q + 3 * row, pixel, inside)


@device_function
def _dcolumn(dout, at, row):
    """Return A y of one column of a tile's gradients."""
    y0, y1, y2 = load(dout, at), load(dout, at + row), load(dout, at + 2 * row)
    return _douts(y0, y1, y2, load(dout, at + 3 * row))


@device_function
def _store_dpoints(y0, y1, y2, y3, dpoints, at, plane):
    """Store A y of one row of a tile."""
    p0, p1, p2, p3, p4, p5 = _douts(y0, y1, y2, y3)
    _store_points(p0, p1, p2, p3, p4, p5, dpoints, at, plane)


@device_function
def transform_douts(dout, at, row, K, tiles, dpoints, to, stride, plane):
    """Transform the gradients of a row of tiles: A y A.T.

    Results are stored in dpoints[point * plane + to + tile * stride + k].
    """
    lanes, down = lanes_of(dout.dtype), IN * plane
    for tile in range(tiles):
        for k in range(0, K, lanes):
            y, q = at + tile * OUT * K + k, to + tile * stride + k
            a0, a1, a2, a3, a4, a5 = _dcolumn(dout, y, row)
            b0, b1, b2, b3, b4, b5 = _dcolumn(dout, y + K, row)
            c0, c1, c2, c3, c4, c5 = _dcolumn(dout, y + 2 * K, row)
            d0, d1, d2, d3, d4, d5 = _dcolumn(dout, y + 3 * K, row)
            _store_dpoints(a0, b0, c0, d0, dpoints, q, plane)
            _store_dpoints(a1, b1, c1, d1, dpoints, q + down, plane)
            _store_dpoints(a2, b2, c2, d2, dpoints, q + 2 * down, plane)
            _store_dpoints(a3, b3, c3, d3, dpoints, q + 3 * down, plane)
            _store_dpoints(a4, b4, c4, d4, dpoints, q + 4 * down, plane)
            _store_dpoints(a5, b5, c5, d5, dpoints, q + 5 * down, plane)


@device_function
def transform_weights(taps, count, out, to, plane):
    """Transform 3 x 3 weights: G g G.T of taps[tap * count + k] to out[point * plane + to + k]."""
    for k in range(0, count, lanes_of(taps.dtype)):
        left, middle, right = k, count + k, 2 * count + k
        down = TAP * count
        a = _weights(load(taps, left), load(taps, left + down), load(taps, left + 2 * down))
        b = _weights(load(taps, middle), load(taps, middle + down), load(taps, middle + 2 * down))
        c = _weights(load(taps, right), load(taps, right + down), load(taps, right + 2 * down))
        for r in range(IN):
            p0, p1, p2, p3, p4, p5 = _weights(a[r], b[r], c[r])
            _store_points(p0, p1, p2, p3, p4, p5, out, to + k + r * IN * plane, plane)


@device_function
def _dpoints(points, at, plane):
    """Return G.T u of one column of points."""
    down = IN * plane
    u0, u1, u2 = load(points, at), load(points, at + down), load(points, at + 2 * down)
    u3, u4 = load(points, at + 3 * down), load(points, at + 4 * down)
    return _dweights(u0, u1, u2, u3, u4, load(points, at + 5 * down))


@device_function
def transform_dweights(points, count, plane, taps):
    """Transform to dweight: G.T u G of points[point * plane + k] to taps[tap * count + k]."""
    for k in range(0, count, lanes_of(points.dtype)):
        a, b = _dpoints(points, k, plane), _dpoints(points, k + plane, plane)
        c, d = _dpoints(points, k + 2 * plane, plane), _dpoints(points, k + 3 * plane, plane)
        e, f = _dpoints(points, k + 4 * plane, plane), _dpoints(points, k + 5 * plane, plane)
        for r in range(TAP):
            g0, g1, g2 = _dweights(a[r], b[r], c[r], d[r], e[r], f[r])
            store(g0, taps, r * TAP * count + k)
            store(g1, taps, (r * TAP + 1) * count + k)
            store(g2, taps, (r * TAP + 2) * count + k)
