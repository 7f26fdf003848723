"""The names that `arrayred.report` hands on, each from the module it lies in."""

from .pages import index_page as index_page
from .pages import night_page as night_page
from .pages import write_index as write_index
from .pages import write_report as write_report
from .render import anchor as anchor
from .render import below as below
from .render import dots as dots
from .render import read as read
from .render import thumbnail as thumbnail
from .run import MOST_PICTURES as MOST_PICTURES
from .run import Account as Account
from .run import Finished as Finished
from .run import FrameLine as FrameLine
from .run import TargetLine as TargetLine
from .run import gathered as gathered
from .run import levelled as levelled
from .run import pictured as pictured
from .run import read_account as read_account

VERSION: int
