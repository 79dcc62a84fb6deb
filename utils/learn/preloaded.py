"""What nearly every lesson imports, for the fork server of the tour: done once, and not in each of its children.

Only packages that start no thread and open no connection when they are imported: those would not survive the fork.
"""

# ruff: noqa: F401

import gc

import databricks.sdk
import git
import langchain.agents
import langchain_openai
import langgraph.graph
import llama_index.core
import matplotlib.figure
import mlflow
import mlflow.langchain
import mlflow.llama_index
import mlflow.store.tracking.sqlalchemy_store
import mlflow.tracing.processor.base_mlflow
import nltk.data
import openai.resources.chat.completions
import openai.resources.responses
import pyspark.sql
import sklearn.linear_model
import skops.io
from sqlalchemy.orm import configure_mappers

import utils.mock_llm.endpoints

configure_mappers()  # otherwise with the first query: half a second
# The children's collections of garbage leave out what is here: they neither look at it nor copy its pages.
gc.collect()
gc.freeze()
