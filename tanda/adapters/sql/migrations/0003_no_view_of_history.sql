-- A file's history is read from the log itself; the view that copied it is of no use any more.
drop schema if exists view_history cascade;
