# Reference numbers for moderated tests, robust and trended priors, block correlations, group tests and tails, on
# simulated data. Run from this folder: Rscript moderation.R. See README.md for versions.
suppressMessages({library(limma); library(statmod)})
out <- "../reference"
save <- function(x, name) {
  x <- as.data.frame(x)
  x[] <- lapply(x, function(v) ifelse(is.na(v), "NA", sprintf("%.17g", v)))
  con <- gzfile(file.path(out, paste0(name, ".tsv.gz")), "wb")
  write.table(x, con, sep = "\t", quote = FALSE, row.names = FALSE)
  close(con)
}
table_of <- function(fit) {
  n <- nrow(fit$coefficients)
  F <- if (is.null(fit$F)) rep(NA, n) else fit$F
  FP <- if (is.null(fit$F.p.value)) rep(NA, n) else fit$F.p.value
  o <- cbind(fit$coefficients, fit$stdev.unscaled, fit$sigma, fit$df.residual, fit$Amean, rep_len(fit$s2.prior, n),
             rep_len(fit$df.prior, n), fit$s2.post, fit$df.total, fit$t, fit$p.value, fit$lods, F, FP,
             matrix(fit$var.prior, n, ncol(fit$t), byrow = TRUE))
  k <- ncol(fit$t)
  colnames(o) <- c(paste0("coef.", 1:k), paste0("stdev_unscaled.", 1:k), "sigma", "df_residual", "Amean", "s2_prior",
                   "df_prior", "s2_post", "df_total", paste0("t.", 1:k), paste0("p.", 1:k), paste0("B.", 1:k), "F",
                   "F_p", paste0("var_prior.", 1:k))
  o
}

# 1. Moderation. Variances follow the mean, some stand out, some values are missing.
set.seed(20)
G <- 96; n <- 11
design <- cbind(1, rep(0:1, c(5, 6)), round(rnorm(n), 3))
contrasts <- cbind(c(0, 1, 0), c(0, 1, -0.5))
A <- rnorm(G, 6, 2)
s <- exp(-0.15 * A) * sqrt(0.4 * 6 / rchisq(G, 6)); s[1:4] <- s[1:4] * 6
y <- matrix(rnorm(G * n), G) * s + A; y[1:12, 6:11] <- y[1:12, 6:11] + 1.5; y <- round(y, 4)
ym <- y
ym[sample(length(ym), 130)] <- NA
ym[20, ] <- NA; ym[21, 4:11] <- NA; ym[22, 6:11] <- NA; ym[23, c(1:4, 6:10)] <- NA
save(y, "moderation_y"); save(ym, "moderation_y_missing"); save(design, "moderation_design")
save(contrasts, "moderation_contrasts")
for (d in c("full", "na")) for (trend in c(FALSE, TRUE)) for (robust in c(FALSE, TRUE)) {
  m <- if (d == "full") y else ym[-20, ]
  fit <- eBayes(contrasts.fit(lmFit(m, design), contrasts), trend = trend, robust = robust)
  save(table_of(fit), paste0("moderation_", d, "_", c("flat", "trend")[trend + 1], "_", c("plain", "robust")[robust + 1]))
}
fit <- eBayes(lmFit(y[1:2, ], design)); save(table_of(fit), "moderation_two_features")
fit <- eBayes(lmFit(y[1, , drop = FALSE], design)); save(table_of(fit), "moderation_one_feature")
fit <- eBayes(lmFit(y[1:7, ], design), trend = TRUE, robust = TRUE); save(table_of(fit), "moderation_seven_features")
same <- y; same[, ] <- round(matrix(rnorm(G * n), G), 4)
save(same, "moderation_equal_y")
for (robust in c(FALSE, TRUE)) {
  fit <- eBayes(lmFit(same, design), robust = robust)
  save(table_of(fit), paste0("moderation_equal_", c("plain", "robust")[robust + 1]))
}
zero <- y; zero[30:33, ] <- 5
save(zero, "moderation_zero_y")
for (robust in c(FALSE, TRUE)) {
  fit <- suppressWarnings(eBayes(lmFit(zero, design), robust = robust))
  save(table_of(fit), paste0("moderation_zero_", c("plain", "robust")[robust + 1]))
}

# 2. Priors alone: large numbers of features with few or many degrees of freedom, ties in the covariate.
set.seed(21)
N <- 400
prior <- data.frame(var = signif(0.3 * rf(N, 4, 9), 6), df = sample(c(2, 3, 4), N, TRUE), covariate = round(rnorm(N), 1))
prior$var[1:5] <- prior$var[1:5] * 50
for (i in 1:4) {
  cov <- if (i > 2) prior$covariate else NULL
  f <- if (i %% 2) limma:::fitFDist(prior$var, prior$df, cov) else limma:::fitFDistRobustly(prior$var, prior$df, cov)
  prior[[paste0("scale", i)]] <- rep_len(f$scale, N)
  prior[[paste0("df", i)]] <- rep_len(if (i %% 2) f$df2 else f$df2.shrunk, N)
}
prior$lowess <- lowess(prior$covariate, prior$var, f = 0.4)$y[rank(prior$covariate, ties.method = "first")]
save(prior, "prior")

# 3. Block correlation and generalised least squares, complete and with missing values.
set.seed(22)
block <- rep(1:14, c(1, 1, 2, 2, 2, 3, 3, 3, 4, 5, 6, 2, 1, 3)); nb <- length(block)
block <- sample(block)
X <- cbind(1, rep(0:1, length.out = nb), round(rnorm(nb), 3))
P <- 60
yb <- matrix(rnorm(P * nb), P) + outer(runif(P, 0, 1.5), rep(1, nb)) * matrix(rnorm(P * 14), P)[, block] + 7
yb <- round(yb, 4)
ybm <- yb; ybm[sample(length(ybm), 150)] <- NA; ybm[1, 6:nb] <- NA; ybm[2, X[, 2] == 1] <- NA; ybm[3, ] <- NA
save(cbind(block, X), "block_design"); save(yb, "block_y"); save(ybm, "block_y_missing")
K <- cbind(c(0, 1, 0), c(0, 1, 2))
for (d in c("full", "na")) {
  m <- if (d == "full") yb else ybm
  dc <- duplicateCorrelation(m, X, block = block)
  fit <- lmFit(m, X, block = block, correlation = dc$consensus)
  fc <- contrasts.fit(fit, K)
  o <- cbind(dc$atanh.correlations, dc$consensus, fit$coefficients, fit$stdev.unscaled, fit$sigma, fit$df.residual,
             fit$Amean, fc$coefficients, fc$stdev.unscaled)
  colnames(o) <- c("atanh", "consensus", paste0("coef.", 1:3), paste0("stdev_unscaled.", 1:3), "sigma", "df_residual",
                   "Amean", paste0("effect.", 1:2), paste0("effect_stdev.", 1:2))
  save(o, paste0("block_fit_", d))
}

# 4. Group tests.
set.seed(23)
g2 <- rep(0:1, c(9, 8)); g4 <- rep(0:3, c(5, 4, 5, 3)); T <- 80
yg <- rbind(matrix(round(rnorm(40 * 17), 3), 40), matrix(round(rnorm(40 * 17), 0), 40))
yg[sample(length(yg), 100)] <- NA
yg[1, ] <- 2; yg[2, 1:9] <- NA; yg[3, ] <- NA; yg[4, 2:9] <- NA; yg[5, 15:17] <- NA
save(yg, "groups_y")
r <- t(apply(yg, 1, function(v) {
  safe <- function(e) tryCatch(suppressWarnings(e), error = function(e) NULL)
  num <- function(h, w) if (is.null(h)) NA else unname(h[[w]])
  a <- v[g2 == 0]; b <- v[g2 == 1]
  w <- safe(wilcox.test(b, a)); w1 <- safe(wilcox.test(b, a, exact = FALSE)); w0 <- safe(wilcox.test(b, a, exact = FALSE, correct = FALSE))
  k <- safe(kruskal.test(v, g4)); t <- safe(t.test(b, a)); o <- safe(oneway.test(v ~ factor(g4)))
  c(W = num(w, "statistic"), p_auto = num(w, "p.value"), p_correct = num(w1, "p.value"), p_plain = num(w0, "p.value"),
    H = num(k, "statistic"), H_df = num(k, "parameter"), H_p = num(k, "p.value"), t = num(t, "statistic"),
    t_df = num(t, "parameter"), t_p = num(t, "p.value"), F = num(o, "statistic"),
    F_df = if (is.null(o)) NA else unname(o$parameter[2]), F_p = num(o, "p.value"))
}))
save(r, "groups_tests")

# 5. Tails.
t <- c(0, 1e-3, .5, 1, 2, 3, 5, 10, 20, 37, 100, 1e3, 1e6, 1e20, 1e100)
d <- c(0.5, 1, 1.5, 2.7, 4.999, 10, 30.3, 119.11, 1234.5, 1e5, 1e8, 1e12, Inf)
q <- expand.grid(t = t, df = d); q$log_p <- log(2) + pt(q$t, q$df, lower.tail = FALSE, log.p = TRUE)
save(q, "tails_t")
f <- c(1e-8, 1e-3, .1, .5, 1, 2, 3, 5, 10, 20, 50, 100, 1e3, 1e6)
q <- expand.grid(f = f, df1 = c(0.7, 1, 2, 4.5, 10, 50, 500), df2 = c(0.5, 1, 2.7, 10, 30.3, 119.11, 1234.5, 1e5, 1e8, Inf))
q$log_p <- pf(q$f, q$df1, q$df2, lower.tail = FALSE, log.p = TRUE)
q$log_lower <- pf(q$f, q$df1, q$df2, log.p = TRUE)
save(q, "tails_f")

# 6. Adjusted p-values and the spline of the q-value smoother.
set.seed(24)
p <- signif(c(rbeta(60, 0.3, 4), runif(90)), 3); p[c(3, 50)] <- NA; p[10:12] <- 0.01
a <- data.frame(p = p)
for (m in c("BH", "BY", "bonferroni", "holm", "hochberg")) a[[m]] <- p.adjust(p, m)
save(a, "adjusted")
x <- seq(0.05, 0.95, 0.05); z <- signif(0.7 + 0.3 * exp(-4 * x) + rnorm(19, 0, 0.02), 6)
save(data.frame(x = x, y = z, fit = smooth.spline(x, z, df = 3)$y), "smooth_spline")
