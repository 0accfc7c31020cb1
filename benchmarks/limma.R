# Time limma on a matrix of the benchmark's size, loading left out.
# Rscript limma.R FEATURES SAMPLES COLUMNS CHUNK MISSING_SHARE -> one JSON line with the seconds of lmFit, contrasts.fit and eBayes.
# limma works on a matrix in memory, which at full size does not fit beside its copies: features go in chunks, as its users do,
# and the prior is estimated once over all of them.
suppressMessages(library(limma))
args <- as.numeric(commandArgs(trailingOnly = TRUE))
features <- args[1]; samples <- args[2]; columns <- args[3]; chunk <- args[4]; missing <- args[5]
set.seed(1)
group <- rep(0:1, length.out = samples)
design <- cbind(1, group, matrix(rnorm(samples * (columns - 2)), samples))
colnames(design) <- paste0("x", seq_len(columns))
contrast <- matrix(0, columns, 1, dimnames = list(colnames(design), "group")); contrast[2, 1] <- 1
elapsed <- 0
pieces <- list()
for (start in seq(1, features, by = chunk)) {
  rows <- min(chunk, features - start + 1)
  m <- matrix(rnorm(rows * samples), rows)
  if (missing > 0) m[sample(length(m), round(missing * length(m)))] <- NA
  before <- proc.time()[["elapsed"]]
  fit <- contrasts.fit(lmFit(m, design), contrast)
  pieces[[length(pieces) + 1]] <- list(coef = fit$coefficients, su = fit$stdev.unscaled, sigma = fit$sigma, df = fit$df.residual, a = fit$Amean)
  elapsed <- elapsed + proc.time()[["elapsed"]] - before
  cov <- fit$cov.coefficients
  rm(m, fit); invisible(gc())
}
before <- proc.time()[["elapsed"]]
whole <- new("MArrayLM", list(
  coefficients = do.call(rbind, lapply(pieces, `[[`, "coef")), stdev.unscaled = do.call(rbind, lapply(pieces, `[[`, "su")),
  sigma = unlist(lapply(pieces, `[[`, "sigma")), df.residual = unlist(lapply(pieces, `[[`, "df")),
  Amean = unlist(lapply(pieces, `[[`, "a")), cov.coefficients = cov, contrasts = contrast, design = design))
whole <- eBayes(whole)
q <- p.adjust(whole$p.value[, 1], "BH")
elapsed <- elapsed + proc.time()[["elapsed"]] - before
cat(sprintf('{"seconds": %.3f, "chunk": %d, "limma": "%s"}\n', elapsed, as.integer(chunk), packageVersion("limma")))
