"""The projection of `ag2_ns.rendering.projection` and its gradient as compiled loops over Gaussians.

In single steps under autograd it is some four hundred operations on short vectors, half of a training step on a CPU.
`camera` holds fx, fy, cx, cy, the least and greatest u and v that the Jacobian is taken at, width, height, the near
plane and the blur.
"""

from __future__ import annotations

import math

from ag2_ns.ops.jit import jit

LEAST_DETERMINANT = 1e-10


@jit
def _matrix(q, out):
    """Rotation matrix of a quaternion of any length into `out`; returns its length."""
    length = max(math.sqrt(q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3]), 1e-12)
    w, x, y, z = q[0] / length, q[1] / length, q[2] / length, q[3] / length
    out[0, 0], out[0, 1], out[0, 2] = 1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)
    out[1, 0], out[1, 1], out[1, 2] = 2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)
    out[2, 0], out[2, 1], out[2, 2] = 2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)
    return length


@jit
def project(
    start, stop, means, quats, scales, rotation, translation, camera, sigmas, limit, means2d, conics, depths, radii,
    variances, work,
):  # fmt: skip
    """Fill what `Projected` holds for Gaussians start:stop; `work` is N x 3 x 3."""
    fx, fy, cx, cy, low_u, high_u, low_v, high_v, width, height, near, blur = camera
    for g in range(start, stop):
        m = means[g]
        z = rotation[2, 0] * m[0] + rotation[2, 1] * m[1] + rotation[2, 2] * m[2] + translation[2]
        depths[g] = z
        front = z > near
        iz = 1 / z if front else 1.0
        u = (rotation[0, 0] * m[0] + rotation[0, 1] * m[1] + rotation[0, 2] * m[2] + translation[0]) * iz
        v = (rotation[1, 0] * m[0] + rotation[1, 1] * m[1] + rotation[1, 2] * m[2] + translation[1]) * iz
        px, py = u * fx + cx, v * fy + cy
        means2d[g, 0] = px
        means2d[g, 1] = py
        uc, vc = min(max(u, low_u), high_u), min(max(v, low_v), high_v)
        turn = work[g]
        _matrix(quats[g], turn)
        xx, xy, yy = blur, 0.0, blur
        for j in range(3):
            ax, ay = 0.0, 0.0
            for i in range(3):
                ax += fx * iz * (rotation[0, i] - uc * rotation[2, i]) * turn[i, j]
                ay += fy * iz * (rotation[1, i] - vc * rotation[2, i]) * turn[i, j]
            ax *= scales[g, j]
            ay *= scales[g, j]
            xx += ax * ax
            xy += ax * ay
            yy += ay * ay
        det = max(xx * yy - xy * xy, LEAST_DETERMINANT)
        conics[g, 0] = yy / det
        conics[g, 1] = -xy / det
        conics[g, 2] = xx / det
        variances[g, 0] = xx
        variances[g, 1] = yy
        half = 0.5 * (xx + yy)
        radius = math.ceil(sigmas * math.sqrt(half + math.sqrt(max(half * half - det, 0.01))))
        drawn = front and px + radius > 0 and px - radius < width and py + radius > 0 and py - radius < height
        radii[g] = int(min(radius, limit)) if drawn else 0


@jit
def project_backward(
    start, stop, means, quats, scales, rotation, translation, camera, radii, g_means2d, g_conics, g_means, g_quats,
    g_scales, work,
):  # fmt: skip
    """Fill the gradients of Gaussians start:stop; those that are not drawn get 0. `work` is N x 3 x 3."""
    fx, fy, _, _, low_u, high_u, low_v, high_v, _, _, _, blur = camera
    for g in range(start, stop):
        for k in range(3):
            g_means[g, k] = 0
            g_scales[g, k] = 0
        for k in range(4):
            g_quats[g, k] = 0
        if radii[g] == 0:
            continue
        m, q, s = means[g], quats[g], scales[g]
        camera_x = rotation[0, 0] * m[0] + rotation[0, 1] * m[1] + rotation[0, 2] * m[2] + translation[0]
        camera_y = rotation[1, 0] * m[0] + rotation[1, 1] * m[1] + rotation[1, 2] * m[2] + translation[1]
        iz = 1 / (rotation[2, 0] * m[0] + rotation[2, 1] * m[1] + rotation[2, 2] * m[2] + translation[2])
        u, v = camera_x * iz, camera_y * iz
        uc, vc = min(max(u, low_u), high_u), min(max(v, low_v), high_v)
        turn = work[g]
        length = _matrix(q, turn)
        xx, xy, yy = blur, 0.0, blur
        ax0, ax1, ax2, ay0, ay1, ay2 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        for i in range(3):
            row_x = fx * iz * (rotation[0, i] - uc * rotation[2, i])
            row_y = fy * iz * (rotation[1, i] - vc * rotation[2, i])
            ax0 += row_x * turn[i, 0]
            ax1 += row_x * turn[i, 1]
            ax2 += row_x * turn[i, 2]
            ay0 += row_y * turn[i, 0]
            ay1 += row_y * turn[i, 1]
            ay2 += row_y * turn[i, 2]
        ax0, ax1, ax2, ay0, ay1, ay2 = ax0 * s[0], ax1 * s[1], ax2 * s[2], ay0 * s[0], ay1 * s[1], ay2 * s[2]
        xx += ax0 * ax0 + ax1 * ax1 + ax2 * ax2
        xy += ax0 * ay0 + ax1 * ay1 + ax2 * ay2
        yy += ay0 * ay0 + ay1 * ay1 + ay2 * ay2
        free = xx * yy - xy * xy
        det = max(free, LEAST_DETERMINANT)
        c0, c1, c2 = g_conics[g, 0], g_conics[g, 1], g_conics[g, 2]
        g_det = -(c0 * yy - c1 * xy + c2 * xx) / (det * det) if free > LEAST_DETERMINANT else 0.0
        g_xx, g_yy, g_xy = c2 / det + g_det * yy, c0 / det + g_det * xx, -c1 / det - 2 * g_det * xy
        bx0, bx1, bx2 = 2 * g_xx * ax0 + g_xy * ay0, 2 * g_xx * ax1 + g_xy * ay1, 2 * g_xx * ax2 + g_xy * ay2
        by0, by1, by2 = 2 * g_yy * ay0 + g_xy * ax0, 2 * g_yy * ay1 + g_xy * ax1, 2 * g_yy * ay2 + g_xy * ax2
        g_kx, g_ky, g_uc, g_vc = 0.0, 0.0, 0.0, 0.0
        for i in range(3):
            side_x, side_y = rotation[0, i] - uc * rotation[2, i], rotation[1, i] - vc * rotation[2, i]
            row_x, row_y = fx * iz * side_x, fy * iz * side_y
            # Through the rows of Jacobian and rotation.
            pull_x = bx0 * turn[i, 0] * s[0] + bx1 * turn[i, 1] * s[1] + bx2 * turn[i, 2] * s[2]
            pull_y = by0 * turn[i, 0] * s[0] + by1 * turn[i, 1] * s[1] + by2 * turn[i, 2] * s[2]
            g_kx += pull_x * side_x
            g_ky += pull_y * side_y
            g_uc -= pull_x * fx * iz * rotation[2, i]
            g_vc -= pull_y * fy * iz * rotation[2, i]
            # Through the Gaussian's axes; the matrix gives way to its gradient.
            a0, a1, a2 = row_x * bx0 + row_y * by0, row_x * bx1 + row_y * by1, row_x * bx2 + row_y * by2
            g_scales[g, 0] += a0 * turn[i, 0]
            g_scales[g, 1] += a1 * turn[i, 1]
            g_scales[g, 2] += a2 * turn[i, 2]
            turn[i, 0], turn[i, 1], turn[i, 2] = a0 * s[0], a1 * s[1], a2 * s[2]
        g_u, g_v = fx * g_means2d[g, 0], fy * g_means2d[g, 1]
        if low_u <= u <= high_u:
            g_u += g_uc
        if low_v <= v <= high_v:
            g_v += g_vc
        g_iz = fx * g_kx + fy * g_ky + g_u * camera_x + g_v * camera_y
        d0, d1, d2 = g_u * iz, g_v * iz, -iz * iz * g_iz
        for k in range(3):
            g_means[g, k] = rotation[0, k] * d0 + rotation[1, k] * d1 + rotation[2, k] * d2
        w, x, y, z = q[0] / length, q[1] / length, q[2] / length, q[3] / length
        gw = -z * turn[0, 1] + y * turn[0, 2] + z * turn[1, 0] - x * turn[1, 2] - y * turn[2, 0] + x * turn[2, 1]
        gx = y * (turn[0, 1] + turn[1, 0]) + z * (turn[0, 2] + turn[2, 0]) + w * (turn[2, 1] - turn[1, 2])
        gx -= 2 * x * (turn[1, 1] + turn[2, 2])
        gy = x * (turn[0, 1] + turn[1, 0]) + z * (turn[1, 2] + turn[2, 1]) + w * (turn[0, 2] - turn[2, 0])
        gy -= 2 * y * (turn[0, 0] + turn[2, 2])
        gz = x * (turn[0, 2] + turn[2, 0]) + y * (turn[1, 2] + turn[2, 1]) + w * (turn[1, 0] - turn[0, 1])
        gz -= 2 * z * (turn[0, 0] + turn[1, 1])
        along = gw * w + gx * x + gy * y + gz * z
        g_quats[g, 0] = 2 * (gw - along * w) / length
        g_quats[g, 1] = 2 * (gx - along * x) / length
        g_quats[g, 2] = 2 * (gy - along * y) / length
        g_quats[g, 3] = 2 * (gz - along * z) / length
