package openflow

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// A fake is a switch that does what a real one does only in its worst moments.
type fake struct {
	t      *testing.T
	stream net.Conn
}

// listen answers each connection with behave, and returns the socket.
func listen(t *testing.T, behave func(f *fake)) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			stream, err := listener.Accept()
			if err != nil {
				return
			}
			wait.Go(func() {
				defer func() { _ = stream.Close() }()
				behave(&fake{t: t, stream: stream})
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		wait.Wait()
	})
	return socket
}

func (f *fake) send(b []byte) { _, _ = f.stream.Write(b) }

// serve greets, and then hands over each message until the connection ends or handle is false.
func (f *fake) serve(handle func(m message) bool) {
	for {
		_, m, err := readMessage(f.stream)
		if err != nil {
			return
		}
		switch m.kind {
		case typeHello:
			f.send(appendHello(nil, 0))
		case typeFeaturesRequest:
			f.send(finish(append(begin(nil, typeFeaturesReply, m.xid), make([]byte, 24)...), 0))
		default:
			if !handle(m) {
				return
			}
		}
	}
}

// commits reports whether a message asks to commit a bundle.
func commits(m message) bool {
	return m.kind == typeExperimenter && number(m.body[4:8]) == bundleControl && number(m.body[12:14]) == bundleCommit
}

func dialFake(t *testing.T, behave func(f *fake)) *Conn {
	t.Helper()
	c, err := Dial(t.Context(), listen(t, behave))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

var anyFlow = adds(Flow{Table: 1, Actions: []Action{Output(1)}})

func TestACommitWithoutAnAnswerHasAnUnknownOutcome(t *testing.T) {
	answerBarriers := func(f *fake, m message) {
		if m.kind == typeBarrierRequest {
			f.send(appendSimple(nil, typeBarrierReply, m.xid))
		}
	}
	t.Run("the connection breaks", func(t *testing.T) {
		c := dialFake(t, func(f *fake) {
			f.serve(func(m message) bool {
				answerBarriers(f, m)
				return !commits(m)
			})
		})
		err := c.Bundle(t.Context(), anyFlow)
		if !errors.Is(err, ErrOutcomeUnknown) || !errors.Is(err, ErrClosed) {
			t.Errorf("got %v, want an unknown outcome of a closed connection", err)
		}
	})
	t.Run("the context ends", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		c := dialFake(t, func(f *fake) {
			f.serve(func(m message) bool {
				answerBarriers(f, m)
				if commits(m) {
					cancel()
				}
				return true
			})
		})
		err := c.Bundle(ctx, anyFlow)
		if !errors.Is(err, ErrOutcomeUnknown) || !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want an unknown outcome of a cancelled request", err)
		}
		if err := c.Barrier(t.Context()); err != nil {
			t.Errorf("the connection is of no use any more: %v", err)
		}
	})
}

func TestABundleThatCannotBeOpenedIsNotCommitted(t *testing.T) {
	var mutex sync.Mutex
	committed := false
	c := dialFake(t, func(f *fake) {
		f.serve(func(m message) bool {
			mutex.Lock()
			committed = committed || commits(m)
			mutex.Unlock()
			switch {
			case m.kind == typeBarrierRequest:
				f.send(appendSimple(nil, typeBarrierReply, m.xid))
			case number(m.body[4:8]) == bundleControl && number(m.body[12:14]) == bundleOpen:
				b := binary.BigEndian.AppendUint32(begin(nil, typeError, m.xid), 0xffff08fd)
				f.send(finish(binary.BigEndian.AppendUint32(b, experimenterONF), 0))
			}
			return true
		})
	})
	var cause SwitchError
	if err := c.Bundle(t.Context(), anyFlow); !errors.As(err, &cause) || cause.Error() != "OFPBFC_EPERM" {
		t.Errorf("got %v, want OFPBFC_EPERM", err)
	}
	mutex.Lock()
	defer mutex.Unlock()
	if committed {
		t.Error("the bundle was committed")
	}
}

func TestEchoRequestsAreAnswered(t *testing.T) {
	answered := make(chan message, 1)
	c := dialFake(t, func(f *fake) {
		f.serve(func(m message) bool {
			switch m.kind {
			case typeEchoRequest:
				f.send(finish(append(begin(nil, typeEchoRequest, 99), "ping"...), 0))
				f.send(appendSimple(nil, typeEchoReply, m.xid))
			case typeEchoReply:
				answered <- m
			}
			return true
		})
	})
	if err := c.Echo(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case m := <-answered:
		if m.xid != 99 || m.body != "ping" {
			t.Errorf("got %+v, want the same body and xid 99", m)
		}
	case <-time.After(limit):
		t.Error("no answer")
	}
}

func TestNonsenseEndsTheConnection(t *testing.T) {
	cases := map[string]func(f *fake, m message){
		"a length below the header's": func(f *fake, m message) { f.send([]byte{version, typeEchoReply, 0, 7, 0, 0, 0, 1}) },
		"half a message":              func(f *fake, m message) { f.send([]byte{version, typeEchoReply, 0, 9}); _ = f.stream.Close() },
	}
	for what, say := range cases {
		t.Run(what, func(t *testing.T) {
			c := dialFake(t, func(f *fake) {
				f.serve(func(m message) bool { say(f, m); return true })
			})
			if err := c.Echo(t.Context()); !errors.Is(err, ErrClosed) {
				t.Errorf("got %v, want ErrClosed", err)
			}
		})
	}
	t.Run("an answer of another kind", func(t *testing.T) {
		c := dialFake(t, func(f *fake) {
			f.serve(func(m message) bool { f.send(appendSimple(nil, typeBarrierReply, m.xid)); return true })
		})
		if err := c.EachFlow(t.Context(), func(InstalledFlow) {}); err == nil || errors.Is(err, ErrClosed) {
			t.Errorf("got %v, want an error of this request alone", err)
		}
		if err := c.Barrier(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestDiallingASilentSwitchEndsWithTheContext(t *testing.T) {
	socket := listen(t, func(f *fake) { _, _ = f.stream.Read(make([]byte, 1000)); _, _ = f.stream.Read(make([]byte, 1000)) })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Dial(ctx, socket); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the deadline", err)
	}
}

func TestTransactionIdsGoOnAfterTheLast(t *testing.T) {
	_, c := connect(t)
	c.mutex.Lock()
	c.nextXID = 0xfffffff8
	c.mutex.Unlock()
	for range 4 {
		if err := c.Bundle(t.Context(), anyFlow); err != nil {
			t.Fatal(err)
		}
		if err := c.Echo(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if flows := dump(t, c); len(flows) != 1 {
		t.Errorf("got %v, want one flow", flows)
	}
}
