// Package progress carries the words of a supervisor that starts to the `up` that
// started it.
//
// It owns the format on the wire: one JSON object a line. It promises that each
// side notices the end of the other.
package progress

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// File is the descriptor on which a supervisor finds its end.
const File = 3

// message is one line.
type message struct {
	Say   string `json:"say,omitempty"`
	Ready bool   `json:"ready,omitempty"`
	Error string `json:"error,omitempty"`
}

// Teller is the supervisor's end.
type Teller struct{ to io.Writer }

// NewTeller tells to the other end.
func NewTeller(to io.Writer) *Teller { return &Teller{to: to} }

// Say tells what goes on, in plain words.
func (t *Teller) Say(format string, args ...any) error {
	return t.send(message{Say: fmt.Sprintf(format, args...)})
}

// Ready tells that the lab is up.
func (t *Teller) Ready() error { return t.send(message{Ready: true}) }

// Fail tells why the lab does not come up.
func (t *Teller) Fail(cause error) error { return t.send(message{Error: cause.Error()}) }

func (t *Teller) send(m message) error {
	line, err := json.Marshal(m)
	if err != nil {
		return err
	}
	_, err = t.to.Write(append(line, '\n'))
	return err
}

// ErrEnded is the end of a supervisor that said neither Ready nor Fail.
var ErrEnded = errors.New("the lab's supervisor ended unexpectedly")

// Listen passes on what is said until the lab is up, and returns nil then. Otherwise
// it returns why it is not.
func Listen(from io.Reader, say func(string)) error {
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, 1<<20) // an error holds the ends of logs
	for lines.Scan() {
		var m message
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			return fmt.Errorf("read what the lab's supervisor says: %w", err)
		}
		switch {
		case m.Error != "":
			return errors.New(m.Error)
		case m.Ready:
			return nil
		default:
			say(m.Say)
		}
	}
	return errors.Join(ErrEnded, lines.Err())
}
