package progress

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
)

func talk(t *testing.T, speak func(*Teller) error) ([]string, error) {
	t.Helper()
	read, write := io.Pipe()
	spoken := make(chan error, 1)
	go func() {
		err := speak(NewTeller(write))
		spoken <- errors.Join(err, write.Close())
	}()
	var heard []string
	err := Listen(read, func(words string) { heard = append(heard, words) })
	read.Close()
	<-spoken
	return heard, err
}

func TestWhatIsSaidIsHeardUntilTheLabIsUp(t *testing.T) {
	heard, err := talk(t, func(to *Teller) error {
		return errors.Join(to.Say("laying %d cables", 3), to.Say("two\nlines"), to.Ready())
	})
	if err != nil || !slices.Equal(heard, []string{"laying 3 cables", "two\nlines"}) {
		t.Errorf("got %q, %v", heard, err)
	}
}

func TestAFailureIsHeardInItsOwnWords(t *testing.T) {
	words := "start nats-1: it ended; the end of its log:\n" + strings.Repeat("x", 1<<17)
	if _, err := talk(t, func(to *Teller) error { return to.Fail(errors.New(words)) }); err == nil || err.Error() != words {
		t.Errorf("got an error of %d bytes", len(err.Error()))
	}
}

func TestASupervisorThatEndsWithoutAWordIsNoticed(t *testing.T) {
	if _, err := talk(t, func(to *Teller) error { return to.Say("starting") }); !errors.Is(err, ErrEnded) {
		t.Errorf("got %v, want ErrEnded", err)
	}
}
