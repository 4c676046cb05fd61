package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// formats are what -o takes.
func formats() []string { return []string{"table", "wide", "json", "yaml"} }

// format is the value of -o.
type format string

func (f *format) String() string { return string(*f) }
func (f *format) Type() string   { return "format" }

// Set refuses a format that there is not, while the command line is read.
func (f *format) Set(value string) error {
	if !slices.Contains(formats(), value) {
		return fmt.Errorf("must be %s", strings.Join(formats(), ", "))
	}
	*f = format(value)
	return nil
}

func addFormatFlag(command *cobra.Command) *format {
	f := format("table")
	command.PersistentFlags().VarP(&f, "output", "o", "how to print: "+strings.Join(formats(), ", "))
	_ = command.RegisterFlagCompletionFunc("output", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return formats(), cobra.ShellCompDirectiveNoFileComp
	})
	return &f
}

// encode prints what is no message, if the format is one of a program's. Of a table it prints
// nothing, and answers false.
func encode(out io.Writer, f format, value any) (printed bool, err error) {
	switch f {
	case "json":
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		return true, encoder.Encode(value)
	case "yaml":
		encoder := yaml.NewEncoder(out)
		encoder.SetIndent(2)
		return true, errors.Join(encoder.Encode(value), encoder.Close())
	}
	return false, nil
}

// column is one column of a table.
type column[T any] struct {
	title string
	wide  bool // only with -o wide
	cell  func(T) string
}

// show prints a list of messages in a format.
func show[T proto.Message](out io.Writer, f format, items []T, columns []column[T]) error {
	switch f {
	case "json":
		text, err := jsonList(items)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(out, "%s\n", text)
		return err
	case "yaml":
		return yamlList(out, items)
	default:
		return table(out, f == "wide", items, columns)
	}
}

// table prints columns three spaces apart, as oc does.
func table[T any](out io.Writer, wide bool, items []T, columns []column[T]) error {
	if !wide {
		columns = slices.DeleteFunc(slices.Clone(columns), func(c column[T]) bool { return c.wide })
	}
	w := tabwriter.NewWriter(out, 0, 8, 3, ' ', 0)
	row := func(cell func(column[T]) string) {
		cells := make([]string, len(columns))
		for i, c := range columns {
			cells[i] = cell(c)
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	row(func(c column[T]) string { return c.title })
	for _, item := range items {
		row(func(c column[T]) string { return c.cell(item) })
	}
	return w.Flush()
}

// jsonList is {"items": […]} of the messages, camelCase, with fields that have
// their default value: a VNID of 0 is an answer.
func jsonList[T proto.Message](items []T) ([]byte, error) {
	list := struct {
		Items []json.RawMessage `json:"items"`
	}{Items: []json.RawMessage{}}
	for _, item := range items {
		text, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(item)
		if err != nil {
			return nil, fmt.Errorf("print as json: %w", err)
		}
		list.Items = append(list.Items, text)
	}
	// Indented here: protojson varies its spaces on purpose.
	text, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("print as json: %w", err)
	}
	return text, nil
}

// yamlList is jsonList in yaml, fields in the same order.
func yamlList[T proto.Message](out io.Writer, items []T) error {
	text, err := jsonList(items)
	if err != nil {
		return err
	}
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		return fmt.Errorf("print as yaml: %w", err)
	}
	plain(&document)
	var buffer bytes.Buffer
	encoder := yaml.NewEncoder(&buffer)
	encoder.SetIndent(2)
	if err := encoder.Encode(&document); err != nil {
		return fmt.Errorf("print as yaml: %w", err)
	}
	_, err = out.Write(buffer.Bytes())
	return err
}

// plain takes the braces and quotes of json away, but for empty lists and maps.
func plain(n *yaml.Node) {
	if n.Kind == yaml.ScalarNode || len(n.Content) > 0 {
		n.Style = 0
	}
	for _, child := range n.Content {
		plain(child)
	}
}

// list prints addresses as oc does: "[]", "[192.168.108.200]".
func list(items []string) string { return "[" + strings.Join(items, ", ") + "]" }

// orDash prints what may be missing.
func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// labels prints labels in order of key.
func labels(m map[string]string) string {
	pairs := make([]string, 0, len(m))
	for key, value := range m {
		pairs = append(pairs, key+"="+value)
	}
	slices.Sort(pairs)
	return orDash(strings.Join(pairs, ","))
}
