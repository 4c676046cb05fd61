// Command judge answers for other programs what the oracle thinks of a cluster: a line
// of JSON with the cluster's objects and questions comes on standard input, a line with
// the answers goes to standard output. It remembers nothing between two lines. So the
// whole-cluster tests have the oracle without what it brings along.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/damask-sdn/damask/test/policyoracle"
)

// request is a cluster, and connections that somebody wants to begin.
type request struct {
	// Objects are Kubernetes' own, of the kinds that policyoracle.ReadObject reads.
	Objects   []json.RawMessage `json:"objects"`
	Questions []question        `json:"questions"`
}

type question struct {
	From     net.IP      `json:"from"`
	To       net.IP      `json:"to"`
	Protocol v1.Protocol `json:"protocol"`
	Port     int         `json:"port"`
}

// answer has a verdict for each question, or an error.
type answer struct {
	Allowed []bool `json:"allowed"`
	Error   string `json:"error,omitempty"`
}

func main() {
	if err := serve(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "judge:", err)
		os.Exit(1)
	}
}

func serve(in io.Reader, out io.Writer) error {
	requests, answers := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var r request
		switch err := requests.Decode(&r); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read a request: %w", err)
		}
		allowed, err := judge(r)
		a := answer{Allowed: allowed}
		if err != nil {
			a.Error = err.Error()
		}
		if err := answers.Encode(a); err != nil {
			return fmt.Errorf("answer: %w", err)
		}
	}
}

func judge(r request) ([]bool, error) {
	objects := make([]runtime.Object, len(r.Objects))
	for i, text := range r.Objects {
		var err error
		if objects[i], err = policyoracle.ReadObject(text); err != nil {
			return nil, err
		}
	}
	engine, err := policyoracle.NewEngine(objects...)
	if err != nil {
		return nil, err
	}
	allowed := make([]bool, len(r.Questions))
	for i, q := range r.Questions {
		allowed[i] = engine.Allows(q.From, q.To, q.Protocol, q.Port)
	}
	return allowed, nil
}
