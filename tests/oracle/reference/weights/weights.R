# Reference numbers for weighted linear models on simulated data: voom, voomWithQualityWeights, arrayWeights, lmFit with
# weights and missing values. Run from this folder: Rscript weights.R. See README.md for versions and calls.
suppressMessages({library(limma); library(edgeR)})
save <- function(x, name) {
  x <- as.data.frame(x)
  x[] <- lapply(x, function(v) ifelse(is.na(v), "NA", sprintf("%.17g", v)))
  con <- gzfile(paste0(name, ".tsv.gz"), "wb")
  write.table(x, con, sep = "\t", quote = FALSE, row.names = FALSE)
  close(con)
}
table_of <- function(fit) {
  n <- nrow(fit$coefficients); k <- ncol(fit$t)
  o <- cbind(fit$coefficients, fit$stdev.unscaled, fit$sigma, fit$df.residual, fit$Amean, rep_len(fit$s2.prior, n),
             rep_len(fit$df.prior, n), fit$s2.post, fit$df.total, fit$t, fit$p.value, fit$lods, fit$F, fit$F.p.value)
  colnames(o) <- c(paste0("coef.", 1:k), paste0("stdev_unscaled.", 1:k), "sigma", "df_residual", "Amean", "s2_prior",
                   "df_prior", "s2_post", "df_total", paste0("t.", 1:k), paste0("p.", 1:k), paste0("B.", 1:k), "F",
                   "F_p")
  o
}

set.seed(30)
G <- 300; n <- 14
design <- cbind(1, rep(0:1, each = 7), round(rnorm(n), 3), rep(0:1, 7))
contrasts <- cbind(c(0, 1, 0, 0), c(0, 1, 0, -0.5), c(0, 0, 1, 1))
lib <- round(runif(n, 0.6, 1.7), 3)
mu <- exp(rnorm(G, 4, 1.6))
effect <- c(rep(1, 30), rep(0, G - 30))
rate <- outer(mu, lib) * exp(outer(effect, design[, 2]))
noise <- c(rep(1, n - 2), 5, 0.4)
counts <- matrix(rnbinom(G * n, mu = rate, size = rep(8 / noise, each = G)), G)
counts[c(40, 41), ] <- 0
counts[42, ] <- 0; counts[42, 3] <- 1
storage.mode(counts) <- "double"
save(counts, "counts"); save(design, "design"); save(contrasts, "contrasts")

v <- voom(counts, design, save.plot = TRUE)
save(v$E, "voom_E"); save(v$weights, "voom_weights"); save(v$voom.line, "voom_line")
save(voom(counts, design, span = 0.3)$weights, "voom_weights_span03")
factors <- calcNormFactors(DGEList(counts))$samples
save(factors[, 2:3], "voom_factors")
save(voom(calcNormFactors(DGEList(counts)), design)$weights, "voom_weights_tmm")
fit <- lmFit(v, design)
save(table_of(eBayes(fit)), "voom_fit")
save(table_of(eBayes(contrasts.fit(fit, contrasts), robust = TRUE)), "voom_contrasts_robust")

q <- voomWithQualityWeights(counts, design)
save(q$weights, "quality_weights"); save(q$targets["sample.weights"], "quality_samples")
save(table_of(eBayes(contrasts.fit(lmFit(q, design), contrasts))), "quality_contrasts")
save(voomWithQualityWeights(counts, design, method = "reml")$targets["sample.weights"], "quality_samples_reml")

y <- round(v$E, 4); y[, 5] <- y[, 5] + round(rnorm(G, 0, 2), 3)
ym <- y
ym[sample(length(ym), 170)] <- NA
ym[20, ] <- NA; ym[21, 3:14] <- NA; ym[22, 8:14] <- NA; ym[23, 6:14] <- NA; ym[24, c(1:4, 6:13)] <- NA
save(y, "y"); save(ym, "y_missing")
aw <- cbind(auto = arrayWeights(y, design), genebygene = arrayWeights(y, design, method = "genebygene"),
            missing = arrayWeights(ym, design), missing_reml = suppressMessages(arrayWeights(ym, design, method = "reml")),
            weighted = arrayWeights(y, design, weights = v$weights),
            weighted_reml = arrayWeights(y, design, weights = v$weights, method = "reml"),
            weighted_missing = arrayWeights(ym, design, weights = v$weights),
            prior5 = arrayWeights(y, design, prior.n = 5))
save(aw, "array_weights")
save(table_of(eBayes(contrasts.fit(lmFit(y, design, weights = aw[, 1]), contrasts))), "array_contrasts")
save(table_of(eBayes(contrasts.fit(lmFit(ym[-20, ], design, weights = aw[, 3]), contrasts))), "array_contrasts_missing")

w <- round(matrix(rexp(G * n), G), 4)
w[sample(length(w), 60)] <- 0
w[50, ] <- w[50, ] * 1e6; w[51, ] <- w[51, ] * 1e-6
save(w, "w")
save(table_of(eBayes(lmFit(y, design, weights = w), trend = TRUE)), "cells_coef_trend")
save(table_of(eBayes(contrasts.fit(lmFit(ym[-20, ], design, weights = w[-20, ]), contrasts))), "cells_contrasts_missing")

tmm <- voom(calcNormFactors(DGEList(counts)), design)
save(table_of(eBayes(contrasts.fit(lmFit(tmm, design), contrasts))), "voom_tmm_contrasts")
