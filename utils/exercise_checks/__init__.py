"""What proves an exercise. Each check reads the tracking store only, and names the first thing that is missing.

A check takes the client and the ids of the experiments to search, and returns None or one sentence. It looks at every
try, the newest first: one that has everything is enough, and otherwise the sentence is about the newest.
"""
