"""``arrayred reduce`` as it would be without noise and flags, whose steps are left out here."""

from arrayred.cli import main
from arrayred.pipeline import images, masters
from arrayred.steps.combine import combine

images.combine_with_peak = combine
images.flag = lambda image, *_, **__: image
images.estimate_noise = lambda image, *_, **__: image
masters.measure_noise = lambda master, *_: master
main()
