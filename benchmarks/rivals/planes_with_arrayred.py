"""arrayred with and without what it says beside the counts: noise and flags.

METHOD is what is made of lights and a master dark: `image`, `image+flags`, `image+flags+noise`, or
the calibrated frames one by one, `frames`, `frames+flags+noise`.
"""

from plain import write_image
from script import run

import arrayred as ar
from arrayred.pipeline import calibrate, settle
from arrayred.steps import find_frame_planes


def combine(files, method, master):
    what, *planes = method.split("+")
    cube = ar.open_frames(files, chunks="auto")
    dark = settle(ar.open_frames(master).isel(frame=0)).assign_attrs(noise=8.2)
    dark = dark.assign_coords(n_frames=5, frame_type="dark")
    if planes or what == "frames":
        image = settle(ar.combine_with_peak(cube, minus=dark))
    else:
        image = settle(ar.combine(cube, minus=dark))
    if "flags" in planes or what == "frames":
        image = ar.flag(image, cube)
    if "noise" in planes:
        image = ar.estimate_noise(image, cube, minus=dark)
    if what == "frames":
        judged = find_frame_planes(cube, dark, image) if planes else None
        for i in range(cube.sizes["frame"]):
            settle(calibrate(cube.isel(frame=[i]), dark, None, judged))
    return image.counts.values


run(combine, write_image)
