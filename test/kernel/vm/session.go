package vm

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"time"

	"github.com/damask-sdn/damask/test/kernel/control"
)

// session is the talk with one machine.
type session struct {
	job   control.Job
	begin time.Time
	limit time.Duration
	kill  func()

	// What came of it; to be read when talk has returned.
	result  Result
	ended   bool
	limited bool
	failure string
}

// talk sends the job and listens until the machine is off.
func (s *session) talk(from *net.UnixListener) error {
	// From here on the machine has to answer, also if it never comes to its ports.
	tooLong := time.AfterFunc(s.limit+lastWords, s.kill)
	defer tooLong.Stop()
	conn, err := from.Accept()
	if err != nil {
		return nil // qemu ended before; its end says why
	}
	defer conn.Close()
	limit := time.AfterFunc(s.limit-time.Since(s.begin), func() {
		// When the request cannot be sent, the machine is ended a little later anyway.
		_ = json.NewEncoder(conn).Encode(control.Request{Diagnose: true})
	})
	defer func() { s.limited = !limit.Stop() }()
	if err := json.NewEncoder(conn).Encode(s.job); err != nil {
		return err
	}
	reports := json.NewDecoder(conn)
	for {
		var report control.Report
		if err := reports.Decode(&report); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		switch {
		case report.Failed != "":
			s.failure = report.Failed
		case report.Ended != nil:
			s.ended, s.result.Code, s.result.MemoryFree = true, report.Ended.Code, report.Ended.MemoryFree
		default:
			s.result.Boot = time.Since(s.begin)
		}
	}
}

// tail keeps the end of what is written to it.
type tail []byte

const tailSize = 4096

// Write never fails.
func (t *tail) Write(data []byte) (int, error) {
	*t = append(*t, data...)
	if excess := len(*t) - tailSize; excess > 0 {
		*t = append((*t)[:0], (*t)[excess:]...)
	}
	return len(data), nil
}

func (t *tail) String() string { return string(*t) }
