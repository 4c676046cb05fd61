package cnisocket

import (
	"context"
	"io"

	"github.com/containerd/log"
	"github.com/hashicorp/go-hclog"
	"github.com/sirupsen/logrus"
)

// logTo makes the library log to the agent's log. What it says is always about one
// connection: a caller that is refused, or one that is gone before its answer.
func logTo(ctx context.Context, to hclog.Logger) context.Context {
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	logger.AddHook(hook{to})
	return log.WithLogger(ctx, logrus.NewEntry(logger))
}

type hook struct{ to hclog.Logger }

// Levels implements logrus.Hook.
func (hook) Levels() []logrus.Level { return logrus.AllLevels }

// Fire implements logrus.Hook.
func (h hook) Fire(e *logrus.Entry) error {
	h.to.Warn("connection to the CNI socket failed", "problem", e.Message, "error", e.Data[logrus.ErrorKey])
	return nil
}
