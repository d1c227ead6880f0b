"""Pages to look at in a browser: tables, pictures, and structures in three dimensions, in one file each."""

from atomsml.report.pages import Fragment as Fragment
from atomsml.report.pages import asset as asset
from atomsml.report.pages import bullets as bullets
from atomsml.report.pages import cards as cards
from atomsml.report.pages import heading as heading
from atomsml.report.pages import image as image
from atomsml.report.pages import page as page
from atomsml.report.pages import pairs as pairs
from atomsml.report.pages import paragraph as paragraph
from atomsml.report.pages import preformatted as preformatted
from atomsml.report.pages import section as section
from atomsml.report.pages import table as table
from atomsml.report.scenes import Frames as Frames
from atomsml.report.scenes import Scene as Scene
from atomsml.report.scenes import viewer as viewer
