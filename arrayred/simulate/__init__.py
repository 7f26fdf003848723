"""A synthetic night with known truth: `SimulatedNight`.

Stars' light falls on rows around a trace that may be tilted, blurred by the seeing, with absorption
and emission lines; the sky shines everywhere, in lines too; lamps make flats and arcs. The detector
answers with a response of its own in every pixel, adds a dark current with hot pixels, a bias level
and read noise, and is hit by cosmic rays. Photons and dark electrons are Poisson distributed, read
noise is normal, and counts are rounded to whole adu, as a camera's converter does.

Frames are made one by one as they are asked for, each from random numbers of its own, so that a
night of any size fits into memory and the same seed gives the same frames in any order.
"""

from arrayred.simulate.detector import Detector
from arrayred.simulate.night import SimulatedFrame, SimulatedNight
from arrayred.simulate.scene import Lamps, Sky, Star

__all__ = ["Detector", "Lamps", "SimulatedFrame", "SimulatedNight", "Sky", "Star"]
