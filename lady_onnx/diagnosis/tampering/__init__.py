"""What was done to single units and weights of a suspect, once all units are in place.

Factors that a structure lets pass are taken out before (`diagnosis.undoing`). What is left is
judged against training, which an honest copy may have gone through. Training moves what had a
gradient and leaves the rest: dead units, frozen layers and words that were not read stay as they
are, or shrink by one factor where weights decay. So a deviation is judged only among what moved
(`moves`), once the common factor is out, by three tests, a module each:

* `rows`. The sizes by which the rows of one weight moved are taken for lognormal above their
  median. The largest rows, at most a tenth of them, stand out if Student's t of their logarithms
  against the rest is rarer than `MAX_ROW_CHANCE`, tested from many to one as in the generalised
  extreme deviate test (Rosner 1983, Technometrics 25:165). They must also be `MIN_DEVIATIONS`
  times the median.
* `elements`. The largest moves of a weight's elements are taken for a power law; the logarithms of
  its spacings are exponential (Renyi 1953, Hill 1975). A gap that is rarer than `MAX_CHANCE` parts
  tampering from the rest. A gradient is a sum of products, one number of a row by one of a column:
  so the usual size of an element's row and of its column is taken out first.
* `lone_moves`. Where hardly anything of a weight moved, there is no such law. If nothing else in
  the model decayed or moved in bulk (`training`), nothing was trained, and what moved is tampering.
  If something did, a few units of this weight may have been the only ones alive. Then their biases,
  and what reads them, moved with them. So four things are tampering:

  * a row of a unit that moved as one of a few in no other weight;
  * an element that moved alone in its row and in its column, because gradients move rows and
    columns, if its units moved as one of a few in no other weight either;
  * a row that was multiplied and moved in no other way;
  * a move too large for the law that the rest of the model shows (Student's t of its logarithm, at
    `MAX_CHANCE`).

  Anything else is `partly trained`.

Decay moves large weights far. So what moved by a smaller share of its own size than half of all
that moved is no finding. `outliers` holds the statistics that the tests share, `detection` runs
them, and `repair` puts the reference's values back. `benchmarks/trainings.py` measures how often
the tests are wrong.
"""
