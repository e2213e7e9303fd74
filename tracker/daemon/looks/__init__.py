"""A memory of looks beside tracking: what objects looked like, found again on any camera, and waited for.

`memory.py` is the thread and its queue; `look.py` makes looks of pixels and features; `kept.py` chooses which of an
object's are kept; `lost.py` knows who may come back; `watched.py` waits for some; `reader.py` searches.
"""
