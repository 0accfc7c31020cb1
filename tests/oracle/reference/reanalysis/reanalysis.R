# Finished trials by stratum: lm with HC3 errors, glm with a likelihood ratio test.
suppressMessages(library(sandwich))
set.seed(11)
n <- 160
trial <- data.frame(
  person_id = sprintf("P%03d", 1:n),
  arm = sample(rep(c("placebo", "low", "high"), length.out = n)),
  class = sample(c("C1", "C2", "C3"), n, TRUE, c(0.4, 0.35, 0.25)),
  baseline = round(rnorm(n, 10, 3), 3)
)
gain <- ifelse(trial$class == "C3", 3, 0.5) * (trial$arm != "placebo")
trial$change <- round(-2 - gain - 0.3 * (trial$baseline - 10) + rnorm(n, 0, ifelse(trial$class == "C1", 2, 5)), 4)
trial$responder <- rbinom(n, 1, plogis(-0.6 + 0.5 * gain + 0.1 * (trial$baseline - 10)))
trial$change[c(4, 70)] <- NA
trial$responder[c(4, 70)] <- NA
trial$arm <- factor(trial$arm, c("placebo", "high", "low"))
trial$class <- factor(trial$class)
d <- trial[!is.na(trial$change), ]
d$x <- d$baseline - mean(d$baseline)

out <- function(x, name) {
  con <- gzfile(paste0(name, ".tsv.gz"), "w")
  x[] <- lapply(x, function(v) if (is.numeric(v)) ifelse(is.na(v), NA, formatC(v, digits = 17, format = "g", width = 1)) else as.character(v))
  write.table(x, con, sep = "\t", quote = FALSE, row.names = FALSE, na = "NaN")
  close(con)
}
rows <- function(fit, v, keep, df) {
  b <- coef(fit)[keep]
  se <- sqrt(diag(v))[keep]
  data.frame(term = keep, effect = b, standard_error = se, low = b - qt(0.975, df) * se, high = b + qt(0.975, df) * se,
             p_value = 2 * pt(-abs(b / se), df))
}
# Each class has its own effect of each arm; the baseline has one slope.
full <- lm(change ~ 0 + class + x + I((class == "C1") * (arm == "high")) + I((class == "C1") * (arm == "low")) +
             I((class == "C2") * (arm == "high")) + I((class == "C2") * (arm == "low")) +
             I((class == "C3") * (arm == "high")) + I((class == "C3") * (arm == "low")), d)
names(full$coefficients)[5:10] <- paste0(rep(c("C1", "C2", "C3"), each = 2), ":", c("high", "low"))
v <- vcovHC(full, type = "HC3"); dimnames(v) <- list(names(coef(full)), names(coef(full)))
effects <- rows(full, v, names(coef(full))[5:10], df.residual(full))
common <- lm(change ~ 0 + class + x + I(1 * (arm == "high")) + I(1 * (arm == "low")), d)
names(common$coefficients)[5:6] <- c("all:high", "all:low")
w <- vcovHC(common, type = "HC3"); dimnames(w) <- list(names(coef(common)), names(coef(common)))
effects <- rbind(effects, rows(common, w, c("all:high", "all:low"), df.residual(common)))
L <- matrix(0, 4, 10); L[1, c(5, 7)] <- c(-1, 1); L[2, c(6, 8)] <- c(-1, 1); L[3, c(7, 9)] <- c(-1, 1); L[4, c(8, 10)] <- c(-1, 1)
b <- L %*% coef(full)
f <- drop(t(b) %*% solve(L %*% v %*% t(L)) %*% b) / 4
tests <- data.frame(kind = "continuous", statistic = f, df = 4, df_residual = df.residual(full),
                    p_value = pf(f, 4, df.residual(full), lower.tail = FALSE))

g <- glm(responder ~ 0 + class + x + I((class == "C1") * (arm == "high")) + I((class == "C1") * (arm == "low")) +
           I((class == "C2") * (arm == "high")) + I((class == "C2") * (arm == "low")) +
           I((class == "C3") * (arm == "high")) + I((class == "C3") * (arm == "low")), binomial, d,
         control = glm.control(epsilon = 1e-14, maxit = 100))
g0 <- glm(responder ~ 0 + class + x + arm, binomial, d, control = glm.control(epsilon = 1e-14, maxit = 100))
s <- summary(g)$coefficients[5:10, ]
s0 <- summary(g0)$coefficients[5:6, ]
binary <- data.frame(term = c(effects$term), effect = c(s[, 1], s0[, 1]), standard_error = c(s[, 2], s0[, 2]),
                     p_value = c(s[, 4], s0[, 4]))
lr <- anova(g0, g, test = "LRT")
tests <- rbind(tests, data.frame(kind = "binary", statistic = lr$Deviance[2], df = lr$Df[2], df_residual = NA,
                                 p_value = lr$`Pr(>Chi)`[2]))
out(trial, "trial"); out(effects, "continuous"); out(binary, "binary"); out(tests, "tests")
