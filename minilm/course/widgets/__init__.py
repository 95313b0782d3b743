"""Things to play with inside a lesson. Each has a still picture and a line of text for pages without a kernel."""

from minilm.course.widgets.attention_explorer import AttentionExplorer
from minilm.course.widgets.base import Widget
from minilm.course.widgets.budget_explorer import BudgetExplorer
from minilm.course.widgets.cache_calculator import CacheCalculator
from minilm.course.widgets.depth_explorer import DepthExplorer
from minilm.course.widgets.floor_explorer import FloorExplorer
from minilm.course.widgets.graph_stepper import GraphStepper
from minilm.course.widgets.group_viewer import GroupViewer
from minilm.course.widgets.guessing_game import GuessingGame
from minilm.course.widgets.mask_explorer import MaskExplorer
from minilm.course.widgets.merge_stepper import MergeStepper
from minilm.course.widgets.rotary_explorer import RotaryExplorer
from minilm.course.widgets.router_explorer import RouterExplorer
from minilm.course.widgets.sampling_explorer import SamplingExplorer
from minilm.course.widgets.schedule_designer import ScheduleDesigner
from minilm.course.widgets.segment_viewer import SegmentViewer
from minilm.course.widgets.surprise_explorer import SurpriseExplorer
from minilm.course.widgets.tilt_explorer import TiltExplorer
from minilm.course.widgets.token_explorer import TokenExplorer
from minilm.course.widgets.training_dashboard import TrainingDashboard

__all__ = [
    "AttentionExplorer",
    "BudgetExplorer",
    "CacheCalculator",
    "DepthExplorer",
    "FloorExplorer",
    "GraphStepper",
    "GroupViewer",
    "GuessingGame",
    "MaskExplorer",
    "MergeStepper",
    "RotaryExplorer",
    "RouterExplorer",
    "SamplingExplorer",
    "ScheduleDesigner",
    "SegmentViewer",
    "SurpriseExplorer",
    "TiltExplorer",
    "TokenExplorer",
    "TrainingDashboard",
    "Widget",
]
