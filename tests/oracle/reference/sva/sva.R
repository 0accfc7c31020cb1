# Surrogate variables of a small simulated table with a nested design, and local false discovery rates of p-values.
suppressMessages(library(sva))
save <- function(x, name) {
  x <- as.data.frame(x); out <- gzfile(paste0(name, ".tsv.gz"), "w")
  write.table(data.frame(id = rownames(x), lapply(x, function(v) sprintf("%.17g", v)), check.names = FALSE), out,
              sep = "\t", quote = FALSE, row.names = FALSE); close(out)
}
set.seed(5)
m <- 600; n <- 24
group <- rep(0:2, length.out = n); age <- rnorm(n, 50, 10); hidden <- matrix(rnorm(3 * n), n)
y <- matrix(rnorm(m * n), m) + rnorm(m, 8, 2) + outer(rnorm(m) * rbinom(m, 1, .2), group) +
  outer(rnorm(m, sd = .05), age) + (matrix(rnorm(3 * m), m) * rbinom(3 * m, 1, .5)) %*% t(hidden)
dimnames(y) <- list(paste0("f", 1:m), paste0("s", 1:n))
samples <- data.frame(group, age, row.names = colnames(y))
mod <- model.matrix(~ factor(group) + age); mod0 <- model.matrix(~ age)
save(y, "y"); save(samples, "samples")
for (B in c(1, 5)) {
  fit <- sva(y, mod, mod0, n.sv = 3, B = B)
  sv <- fit$sv; rownames(sv) <- colnames(y); save(sv, paste0("irw_B", B))
  save(data.frame(p_surrogate = fit$pprob.gam, p_design = fit$pprob.b, row.names = rownames(y)), paste0("irw_B", B, "_pprob"))
}
fit <- sva(y, mod, mod0, n.sv = 3, method = "two-step")
sv <- fit$sv; rownames(sv) <- colnames(y); save(sv, "two_step")
save(data.frame(used = as.numeric(fit$pprob.gam), row.names = rownames(y)), "two_step_used")
counts <- round(exp(y / 3)); fit <- svaseq(counts, mod, mod0, n.sv = 2)
sv <- fit$sv; rownames(sv) <- colnames(y); save(sv, "svaseq")
for (what in c("leek", "be")) cat(what, num.sv(y, mod, method = what, seed = 1), "\n")
p <- data.frame(even = runif(500), mixed = c(runif(400), rbeta(100, .2, 5)), strong = rbeta(500, .05, 3),
                ties = round(c(runif(400), rbeta(100, .2, 5)), 2), rising = rbeta(500, 3, 1))
save(p, "p"); save(as.data.frame(lapply(p, sva:::edge.lfdr)), "lfdr")
