"""The names that `arrayred.explore` hands on, each from the module it lies in."""

from .app import header_table as header_table
from .app import make_result as make_result
from .app import message_html as message_html
from .app import pixel_text as pixel_text
from .app import rows_line as rows_line
from .data import BlockStatistic as BlockStatistic
from .data import ExplorerModel as ExplorerModel
from .data import GroupReader as GroupReader
from .data import View as View
from .data import format_rows as format_rows
from .data import parse_rows as parse_rows
from .figures import MOST_DOTS as MOST_DOTS
from .figures import PALETTES as PALETTES
from .figures import ImageView as ImageView
from .figures import PanelView as PanelView
from .figures import Window as Window
from .figures import levels as levels
from .figures import picture as picture
