"""The labelling server: one bundle over HTTP, without torch.

`app` puts it together, `guard`, `limits` and `connections` keep strangers out, `work` queues what
`engine` computes, and `apis/` has one file for each wire format.
"""
