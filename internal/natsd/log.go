package natsd

import (
	"fmt"
	"sync"

	"github.com/hashicorp/go-hclog"
)

// serverLog passes the server's log on. What the server calls a notice is told
// at level debug: it is about its own start, its Raft groups and each file.
type serverLog struct {
	log hclog.Logger

	mu  sync.Mutex
	end string // why the server gave up
}

// The methods implement server.Logger; the server's text is one value of a
// constant message.
func (l *serverLog) Noticef(format string, v ...any) { l.tell(hclog.Debug, format, v) }
func (l *serverLog) Warnf(format string, v ...any)   { l.tell(hclog.Warn, format, v) }
func (l *serverLog) Debugf(format string, v ...any)  { l.tell(hclog.Trace, format, v) }
func (l *serverLog) Tracef(format string, v ...any)  { l.tell(hclog.Trace, format, v) }

// Errorf is a warning to us: most are about one client (a failed handshake).
func (l *serverLog) Errorf(format string, v ...any) { l.tell(hclog.Warn, format, v) }

// Fatalf must not end the process, which may be a service.
func (l *serverLog) Fatalf(format string, v ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.end == "" {
		l.end = fmt.Sprintf(format, v...)
	}
}

func (l *serverLog) fatal() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.end
}

func (l *serverLog) tell(level hclog.Level, format string, v []any) {
	l.log.Log(level, "from the server", "text", fmt.Sprintf(format, v...))
}
