package kube

import (
	"context"
	"errors"
	"fmt"
	"strings"

	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/tenancy/kubesyntax"
	"github.com/damask-sdn/damask/services/tenancy/labels"
	"github.com/damask-sdn/damask/services/tenancy/netnamespace"
)

// Words of the annotation that asks for another VNID.
const (
	wordIsolate = "isolate"
	wordGlobal  = "global"
	wordJoin    = "join:"
)

// change is what the annotation asks for.
type change struct {
	word   string // one of the words
	target string // of a join
}

// parseChange reads the annotation.
func parseChange(text string) (change, error) {
	if target, ok := strings.CutPrefix(text, wordJoin); ok {
		if problem := kubesyntax.DNSLabel(target); problem != "" {
			return change{}, &wrongError{"InvalidAnnotation", fmt.Sprintf("%q names no namespace: %s", text, problem)}
		}
		return change{word: wordJoin, target: target}, nil
	}
	if text != wordIsolate && text != wordGlobal {
		return change{}, &wrongError{"InvalidAnnotation", fmt.Sprintf("%q is not join:NAMESPACE, isolate or global", text)}
	}
	return change{word: text}, nil
}

// carryOut does what is asked for, as the RPC of that name does.
func (c change) carryOut(ctx context.Context, store *netnamespace.Store, name string) (*tenancyv1.NetNamespace, error) {
	switch c.word {
	case wordJoin:
		return store.Join(ctx, name, c.target)
	case wordGlobal:
		return store.MakeGlobal(ctx, name)
	}
	return store.Isolate(ctx, name)
}

// wrongError says that an object cannot mean what is in it.
type wrongError struct{ reason, text string }

func (e *wrongError) Error() string { return e.text }

// refusal answers the reason for which something is refused; an empty one when the error
// is not a refusal, so that it is to be tried again.
func refusal(err error) string {
	var (
		wrong     *wrongError
		mode      *netnamespace.ModeError
		notFound  *netnamespace.NotFoundError
		crowded   *netnamespace.CrowdedError
		exhausted *netnamespace.ExhaustedError
		isDefault *netnamespace.DefaultError
		tooLarge  *labels.TooLargeError
	)
	switch {
	case errors.As(err, &wrong):
		return wrong.reason
	case errors.As(err, &mode):
		return "WrongMode"
	case errors.As(err, &notFound):
		return "NotFound"
	case errors.As(err, &crowded), errors.As(err, &exhausted):
		return "Exhausted"
	case errors.As(err, &isDefault):
		return "DefaultNamespace"
	case errors.As(err, &tooLarge):
		return "TooLarge"
	}
	return ""
}

// refusals are all that is refused of one object.
type refusals []error

// add keeps a refusal, and answers any other error.
func (r *refusals) add(what string, err error) error {
	if err == nil {
		return nil
	}
	if refusal(err) == "" {
		return fmt.Errorf("%s: %w", what, err)
	}
	*r = append(*r, fmt.Errorf("%s: %w", what, err))
	return nil
}

func (r refusals) reason() string { return refusal(r[0]) }

func (r refusals) message() string {
	texts := make([]string, len(r))
	for i, err := range r {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

// labelChange answers what must change for an object to have the wanted labels.
func labelChange(has, wants map[string]string) (labels.Change, bool) {
	c := labels.Change{Set: map[string]string{}}
	for key, value := range wants {
		if was, ok := has[key]; !ok || was != value {
			c.Set[key] = value
		}
	}
	for key := range has {
		if _, ok := wants[key]; !ok {
			c.Remove = append(c.Remove, key)
		}
	}
	return c, len(c.Set)+len(c.Remove) > 0
}
