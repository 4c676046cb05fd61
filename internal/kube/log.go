package kube

import (
	"sync"

	"github.com/go-logr/logr"
	"github.com/hashicorp/go-hclog"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

// sink writes what client-go and controller-runtime log with our logger. What they find
// worth telling everybody is for us a matter of debugging; errors stay errors.
type sink struct{ log hclog.Logger }

// Init is called first, with nothing that is of use.
func (s sink) Init(logr.RuntimeInfo) {}

// Enabled says whether a level is logged.
func (s sink) Enabled(level int) bool { return s.log.GetLevel() <= levelOf(level) }

// Info logs a line.
func (s sink) Info(level int, msg string, pairs ...any) { s.log.Log(levelOf(level), msg, pairs...) }

// Error logs an error.
func (s sink) Error(err error, msg string, pairs ...any) {
	s.log.Error(msg, append([]any{"error", err}, pairs...)...)
}

// WithValues adds to each line.
func (s sink) WithValues(pairs ...any) logr.LogSink { return sink{s.log.With(pairs...)} }

// WithName names the part that logs.
func (s sink) WithName(name string) logr.LogSink { return sink{s.log.Named(name)} }

func levelOf(verbosity int) hclog.Level {
	if verbosity == 0 {
		return hclog.Debug
	}
	return hclog.Trace
}

// The libraries have one logger a process.
var setLoggers sync.Once

func useLogger(to hclog.Logger) logr.Logger {
	l := logr.New(sink{to})
	setLoggers.Do(func() {
		klog.SetLogger(l)
		log.SetLogger(l)
	})
	return l
}
