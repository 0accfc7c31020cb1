# Time ConsensusClusterPlus on a matrix of doubles in a file, sample after sample; k = 2 to 6.
# Rscript consensus.R FILE FEATURES SAMPLES RESAMPLES hc|km|pam pearson|euclidean -> one JSON line: seconds of the call, version,
# and the groups of every k as digits.
suppressMessages(library(ConsensusClusterPlus))
args <- commandArgs(trailingOnly = TRUE)
features <- as.integer(args[2]); samples <- as.integer(args[3])
m <- matrix(readBin(args[1], "double", n = features * samples), nrow = features)
dimnames(m) <- list(paste0("f", seq_len(features)), paste0("s", seq_len(samples)))
pdf(NULL)
took <- system.time(found <- suppressMessages(ConsensusClusterPlus(m, maxK = 6, reps = as.integer(args[4]), pItem = 0.8,
  pFeature = 1, clusterAlg = args[5], distance = args[6], innerLinkage = "average", finalLinkage = "average", seed = 1,
  plot = NULL)))[["elapsed"]]
groups <- sapply(found[2:6], function(r) paste(r$consensusClass, collapse = ""))
cat(sprintf('{"seconds": %.3f, "version": "%s", "groups": [%s]}\n', took, packageVersion("ConsensusClusterPlus"),
  paste0('"', groups, '"', collapse = ", ")))
