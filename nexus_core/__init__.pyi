# Written by `make generate`.

from nexus_core.app.nexus import Nexus as Nexus
from nexus_core.app.platform import Platform as Platform
from nexus_core.app.plugin import Plugin as Plugin
from nexus_core.errors import AuthenticationError as AuthenticationError
from nexus_core.errors import BackendUnavailable as BackendUnavailable
from nexus_core.errors import CircuitOpen as CircuitOpen
from nexus_core.errors import ConfigurationError as ConfigurationError
from nexus_core.errors import Conflict as Conflict
from nexus_core.errors import MalformedRequest as MalformedRequest
from nexus_core.errors import NexusError as NexusError
from nexus_core.errors import NotFound as NotFound
from nexus_core.errors import Overloaded as Overloaded
from nexus_core.errors import PermissionDenied as PermissionDenied
from nexus_core.errors import PluginError as PluginError
from nexus_core.errors import PortInUse as PortInUse
from nexus_core.errors import RateLimited as RateLimited
from nexus_core.errors import RunCancelled as RunCancelled
from nexus_core.errors import RunNotFound as RunNotFound
from nexus_core.errors import SessionNotFound as SessionNotFound
from nexus_core.errors import StepTimeout as StepTimeout
from nexus_core.errors import ValidationError as ValidationError
from nexus_core.errors import WorkflowError as WorkflowError
from nexus_core.errors import WorkflowFailed as WorkflowFailed
from nexus_core.errors import WorkflowNotFound as WorkflowNotFound
from nexus_core.errors import WorkflowTimeout as WorkflowTimeout
from nexus_core.events.event import ChannelEvent as ChannelEvent
from nexus_core.events.handlers import EventHandler as EventHandler
from nexus_core.options.channel import ChannelConfig as ChannelConfig
from nexus_core.options.production import ProductionConfig as ProductionConfig
from nexus_core.options.settings import CoreSettings as CoreSettings
from nexus_core.options.settings import MetadataKey as MetadataKey
from nexus_core.options.settings import PluginSettings as PluginSettings
from nexus_core.pipeline.invocation import Caller as Caller
from nexus_core.pipeline.invocation import Invocation as Invocation
from nexus_core.pipeline.resolvers import ParameterResolver as ParameterResolver
from nexus_core.pipeline.stage import AnyCaller as AnyCaller
from nexus_core.pipeline.stage import Call as Call
from nexus_core.pipeline.stage import CallNext as CallNext
from nexus_core.pipeline.stage import Interceptor as Interceptor
from nexus_core.pipeline.stage import Stage as Stage
from nexus_core.plugins.markers import hookimpl as hookimpl
from nexus_core.runs.context import Context as Context
from nexus_core.runs.run import Run as Run
from nexus_core.runs.status import RunStatus as RunStatus
from nexus_core.schema.json_form import JsonForm as JsonForm
from nexus_core.schema.json_form import schema_of as schema_of
from nexus_core.server.channel import Channel as Channel
from nexus_core.server.channel import Command as Command
from nexus_core.server.channel import Listener as Listener
from nexus_core.server.channel import Route as Route
from nexus_core.server.channel import Server as Server
from nexus_core.state.sessions import Session as Session
from nexus_core.state.sessions import SessionStore as SessionStore
from nexus_core.types.parameter_source import ParameterSource as ParameterSource
from nexus_core.types.principal import Principal as Principal
from nexus_core.types.result import Result as Result
from nexus_core.workflows.function_form import FunctionForm as FunctionForm
from nexus_core.workflows.function_form import input_schema_of as input_schema_of
from nexus_core.workflows.function_form import output_schema_of as output_schema_of
from nexus_core.workflows.workflow import Workflow as Workflow
from nexus_core.workflows.workflow import WorkflowAdapter as WorkflowAdapter

__all__ = [
    "AnyCaller",
    "AuthenticationError",
    "BackendUnavailable",
    "Call",
    "CallNext",
    "Caller",
    "Channel",
    "ChannelConfig",
    "ChannelEvent",
    "CircuitOpen",
    "Command",
    "ConfigurationError",
    "Conflict",
    "Context",
    "CoreSettings",
    "EventHandler",
    "FunctionForm",
    "Interceptor",
    "Invocation",
    "JsonForm",
    "Listener",
    "MalformedRequest",
    "MetadataKey",
    "Nexus",
    "NexusError",
    "NotFound",
    "Overloaded",
    "ParameterResolver",
    "ParameterSource",
    "PermissionDenied",
    "Platform",
    "Plugin",
    "PluginError",
    "PluginSettings",
    "PortInUse",
    "Principal",
    "ProductionConfig",
    "RateLimited",
    "Result",
    "Route",
    "Run",
    "RunCancelled",
    "RunNotFound",
    "RunStatus",
    "Server",
    "Session",
    "SessionNotFound",
    "SessionStore",
    "Stage",
    "StepTimeout",
    "ValidationError",
    "Workflow",
    "WorkflowAdapter",
    "WorkflowError",
    "WorkflowFailed",
    "WorkflowNotFound",
    "WorkflowTimeout",
    "hookimpl",
    "input_schema_of",
    "output_schema_of",
    "schema_of",
]
