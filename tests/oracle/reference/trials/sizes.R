# Sizes and powers of two arms from R's own functions: `Rscript sizes.R` in this folder.
write <- function(frame, name) {
  out <- gzfile(paste0(name, ".tsv.gz"), "w")
  number <- vapply(frame, is.double, TRUE)
  frame[number] <- lapply(frame[number], function(x) sprintf("%.17g", x))
  write.table(frame, out, sep = "\t", quote = FALSE, row.names = FALSE)
  close(out)
}

means <- expand.grid(delta = c(0.8, 1.2, 3, 6), sd = c(2, 5, 6), power = c(0.8, 0.9), alpha = c(0.01, 0.05), sided = 1:2)
means$n <- mapply(function(delta, sd, power, alpha, sided)
  power.t.test(delta = delta, sd = sd, power = power, sig.level = alpha, tol = 1e-12,
               alternative = c("one.sided", "two.sided")[sided])$n,
  means$delta, means$sd, means$power, means$alpha, means$sided)
write(means, "means_n")

at <- expand.grid(n = c(5, 20, 64, 300), delta = c(0, 0.5, 3), sd = c(1, 6), alpha = c(0.01, 0.05))
at$power <- mapply(function(n, delta, sd, alpha)
  power.t.test(n = n, delta = delta, sd = sd, sig.level = alpha, strict = TRUE)$power, at$n, at$delta, at$sd, at$alpha)
at$power_one_tail <- mapply(function(n, delta, sd, alpha)
  power.t.test(n = n, delta = delta, sd = sd, sig.level = alpha)$power, at$n, at$delta, at$sd, at$alpha)
write(at, "means_power")

shares <- subset(expand.grid(p1 = c(0.2, 0.35, 0.5, 0.7), p2 = c(0.1, 0.17, 0.3), power = c(0.8, 0.9), alpha = c(0.01, 0.05),
                             sided = 1:2), p1 > p2)
shares$n <- mapply(function(p1, p2, power, alpha, sided)
  power.prop.test(p1 = p1, p2 = p2, power = power, sig.level = alpha, tol = 1e-12,
                  alternative = c("one.sided", "two.sided")[sided])$n,
  shares$p1, shares$p2, shares$power, shares$alpha, shares$sided)
shares$power_at_100 <- mapply(function(p1, p2, alpha, sided)
  power.prop.test(n = 100, p1 = p1, p2 = p2, sig.level = alpha, strict = TRUE,
                  alternative = c("one.sided", "two.sided")[sided])$power,
  shares$p1, shares$p2, shares$alpha, shares$sided)
write(shares, "shares_n")

# One trial, person by person, and what lm, glm and mantelhaen.test say of it.
set.seed(20)
n <- 240
person <- data.frame(call = sample(c("called target", "called other", "not called"), n, TRUE, c(0.4, 0.45, 0.15)),
                     arm = rep(0:1, n / 2), baseline = rnorm(n))
person$change <- 2 * person$baseline + (person$call == "called target") * (1 + 2.5 * person$arm) + rnorm(n, 0, 4)
person$responder <- as.integer(runif(n) < 0.3 + 0.25 * person$arm * (person$call == "called target"))
write(transform(person, arm = as.integer(arm)), "trial")
row <- function(model, name) summary(model)$coefficients[name, c("Estimate", "Std. Error", "Pr(>|t|)")]
target <- subset(person, call == "called target"); other <- subset(person, call == "called other")
rows <- rbind(
  all_comers = row(lm(change ~ arm, person), "arm"),
  stratified = row(lm(change ~ arm + call, person), "arm"),
  target = row(lm(change ~ arm, target), "arm"),
  all_comers_ancova = row(lm(change ~ arm + baseline, person), "arm"),
  stratified_ancova = row(lm(change ~ arm + baseline + call, person), "arm"),
  target_ancova = row(lm(change ~ arm + baseline, target), "arm"),
  other_ancova = row(lm(change ~ arm + baseline, other), "arm"),
  other = row(lm(change ~ arm, other), "arm"))
write(data.frame(analysis = rownames(rows), estimate = rows[, 1], error = rows[, 2], p = rows[, 3]), "trial_means")
counts <- table(person$arm, person$responder)
cmh <- mantelhaen.test(table(person$arm, person$responder, person$call), correct = FALSE)
write(data.frame(analysis = c("all_comers_pooled", "stratified_pooled"),
                 p = c(prop.test(counts[2:1, 2], rowSums(counts)[2:1], correct = FALSE)$p.value, cmh$p.value)),
      "trial_shares")

p <- matrix(c(0.001, 0.02, 0.04, 0.049, 0.012, 0.2, 0.03, 0.03, 0.03, 0.051, 0.01, 0.001), ncol = 3, byrow = TRUE)
adjusted <- do.call(rbind, lapply(c("holm", "hochberg", "bonferroni"), function(method)
  data.frame(method = method, trial = as.integer(seq_len(nrow(p))), t(apply(p, 1, p.adjust, method)))))
names(adjusted)[3:5] <- c("h1", "h2", "h3")
write(adjusted, "adjusted")
