package kubetest

import (
	"crypto/tls"
	"io"
	"net"
	"testing"
	"time"
)

func TestTheNameInAGreetingIsHeardAndTheGreetingIsWhole(t *testing.T) {
	for _, name := range []string{"kubernetes.default.svc", ""} {
		client, here := net.Pipe()
		greeted := make(chan []byte, 1)
		go func() {
			config := &tls.Config{ServerName: name, InsecureSkipVerify: true}
			_ = tls.Client(client, config).Handshake() // until the pipe is closed
		}()
		heard, said := serverName(here)
		if heard != name {
			t.Errorf("heard %q, want %q", heard, name)
		}
		// What was said leads a server of TLS to the same greeting again.
		again, other := net.Pipe()
		go func() {
			_, _ = other.Write(said)
			_ = other.Close()
		}()
		go func() {
			_, repeated := serverName(again)
			greeted <- repeated
		}()
		select {
		case repeated := <-greeted:
			if string(repeated) != string(said) || len(said) == 0 {
				t.Errorf("%d bytes were said, and %d again", len(said), len(repeated))
			}
		case <-time.After(10 * time.Second):
			t.Error("the greeting is not whole")
		}
		for _, conn := range []io.Closer{client, here, again} {
			_ = conn.Close()
		}
	}
}

func TestWhoSpeaksNoTLSIsPassedOn(t *testing.T) {
	client, here := net.Pipe()
	go func() {
		_, _ = client.Write([]byte("GET / HTTP/1.1\r\n"))
		_ = client.Close()
	}()
	name, said := serverName(here)
	rest, err := io.ReadAll(here)
	if err != nil || name != "" || string(said)+string(rest) != "GET / HTTP/1.1\r\n" {
		t.Errorf("heard %q, %q and %q: %v", name, said, rest, err)
	}
}
