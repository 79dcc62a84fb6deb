"""What stands before an agent that is served: each guard is a small ASGI app around the next one.

A guard looks at one thing and answers by itself when it says no, so that the agent never sees the request. They know
nothing of MLflow or of each other, except for the record of the request (utils/serving/record.py).
"""
