# Time sva's ComBat or preprocessCore's quantile normalisation on a matrix in memory, loading left out.
# Rscript normalise.R combat|quantile FILE FEATURES SAMPLES BATCHES -> one JSON line with the seconds.
# FILE holds doubles, sample after sample. Batches go round: sample i is of batch i modulo BATCHES.
# preprocessCore as packaged starts threads that fail; its own option of one thread is used, in a larger stack (ulimit -s).
args <- commandArgs(trailingOnly = TRUE)
what <- args[1]; features <- as.integer(args[3]); samples <- as.integer(args[4]); batches <- as.integer(args[5])
m <- matrix(readBin(args[2], "double", n = features * samples), nrow = features)
dimnames(m) <- list(paste0("f", seq_len(features)), paste0("s", seq_len(samples)))
if (what == "combat") {
  suppressMessages(library(sva))
  batch <- factor(seq_len(samples) %% batches)
  group <- factor(rep(0:1, each = batches, length.out = samples))
  design <- model.matrix(~group)
  took <- system.time(out <- suppressMessages(ComBat(m, batch, mod = design)))[["elapsed"]]
  version <- packageVersion("sva")
} else {
  suppressMessages(library(preprocessCore))
  took <- system.time(out <- normalize.quantiles(m))[["elapsed"]]
  version <- packageVersion("preprocessCore")
}
cat(sprintf('{"seconds": %.3f, "version": "%s", "check": %.10f}\n', took, version, mean(out[seq_len(100), ])))
