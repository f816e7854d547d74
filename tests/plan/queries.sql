-- One query a line, over tables a(k, v, s, i), b(k, w, t), c(k, w) and the empty e(k, w).
-- Rows must equal those of DataFusion alone, and DuckDB checks what both understand.
select k from a where k not in (select k from b)
select k from a where k not in (select k from b where k is not null)
select k,i from a where k not in (select k from e)
select k,i from a where k not in (select k from c)
select k,i from a where k+1 not in (select k*2 from c)
select k,i from a where k in (select k from b)
with t as (select k,v from a) select * from t t1 join t t2 on t1.k=t2.k
select * from a t1 join a t2 on t1.k=t2.k
select k from a intersect select k from b
select k from a except select k from b
select k from a union select k from b
select k from a union all select k from b
select k, s from a where k = 1 union all select k, s from a order by k, s
select k, s from a union all select w, t from b union all select k, cast(w as varchar) from c
select k, count(*) from (select k from a union all select k from b) group by k
select k, sum(v) over (partition by k order by i) x, row_number() over (order by i) r from a
select k, rank() over (partition by s order by v, i) x, sum(v) over (partition by s, k) y from a
select i, lag(v, 1) over (order by i) x, first_value(v) ignore nulls over (order by i rows between 2 preceding and 1 following) y from a
select i, avg(v) over (partition by k order by i rows between unbounded preceding and current row) y, ntile(3) over (partition by k order by i) from a
select i, sum(v) over (order by k range between 1 preceding and 1 following) y from a where k is not null
select k, s, sum(v) from a group by rollup(k,s)
select k, s, grouping(k) g, count(*) from a group by cube(k,s)
select s, count(distinct k), sum(v) from a group by s
select count(distinct k), count(distinct s), sum(distinct k) from a
select s, count(*) filter (where v>0), sum(v) filter (where k>3) from a group by s
select s, median(v), stddev(v), var_pop(v), corr(v,k) from a group by s
select median(v), count(*) from a
select s, array_agg(v order by i), string_agg(s, ',' order by i) from a group by s
select s, first_value(v order by i), last_value(v order by i desc) from a group by s
select first_value(i order by i) filter (where v > 0) from a
select * from (values (1,'a'),(2,'b')) t(x,y)
select x, a.i from (values (1,'a'),(2,'b')) t(x,y) join a on a.k=x
select x, a.i from (values (1,'a'),(2,'b'),(99,'c')) t(x,y) left join a on a.k=x
select 1 as x
select 1 as x where false
select unnest([1,2,3]) as u, k from a
select k from a where exists (select 1 from b where b.k=a.k)
select k from a where not exists (select 1 from b where b.k=a.k and b.w > a.i)
select k, (select max(w) from b) as m from a
select k, (select w from b where w > 1000) as m from a
select k, (select max(w) from b where b.k=a.k) as m, i from a
select i, v > (select avg(v) from a) as above, (select count(*) from c) n from a where k < (select max(k) from c)
select k, (select count(*) from b where b.k=a.k) as m, i from a
select a.i, z.w from a, lateral (select w from b where b.k=a.k) z
select a.k, b.k, a.i, b.w from a full join b on a.k=b.k
select a.k, b.k, a.i, b.w from a right join b on a.k=b.k
select a.k, b.k, a.i, b.w from a left join b on a.k=b.k and a.i < b.w
select a.k, b.k, a.i, b.w from a right join b on a.k=b.k and a.i < b.w
select a.k, b.k, a.i, b.w from a full join b on a.k=b.k and a.i < b.w
select a.k,b.k from a cross join b
select a.k,b.k from a join b on a.k<b.k
select a.k,b.k from a left join b on a.i<b.w - 40
select a.k,b.k,a.i,b.w from a full join b on a.i<b.w - 40
select a.i,b.w from a join b on a.k = b.k + 1 and a.i % 3 = b.w % 3
select a.i,b.w from a join b on upper(a.s) = upper(b.t)
select a.i,b.w from a left join b on a.s = b.t or a.k = b.k
select * from a left semi join b on a.k=b.k
select * from a left anti join b on a.k=b.k
select * from b right semi join a on a.k=b.k
select case when k>1 then 'a' else s end c from a
select regexp_replace(s,'x','y') r, s ~ 'x' m from a
select regexp_match(s,'(x)')[1] r from a
select * from a where s like '%x%' or s ilike 'YY'
select * from a where k in (1,2)
select * from a where k between 1 and 2 and i not in (5,6,7)
select date_trunc('month', timestamp '2020-01-05 10:00:00') t, interval '1 day' i from a
select distinct on (k) k, v from a order by k, i
select k, i from a order by k nulls first, i desc
select v, i from a order by v desc nulls last, i
select s, i from a order by s desc, i
select v, i from a order by v desc nulls first, i limit 7 offset 3
select k+1 as z, i from a order by k * -1, i
select k+1 as z, i from a order by k * -1, i limit 4
select i from a order by i limit 0
select count(*) from (select 1 from a limit 10)
select sum(i) from (select i from a order by i limit 10)
select count(*) from a
select count(*) from e
select sum(w), count(w), avg(w), min(w), max(w) from e
select k, sum(w) from e group by k
select * from e order by k
select * from e limit 3
select count(*) from a, b
select cast(v as int) c, try_cast(s as int) d, arrow_cast(v,'Float32') e from a
with recursive t as (select 1 as n union all select n+1 from t where n<5) select * from t
select struct(k,v) st, named_struct('a',k) ns, [k, 1] l from a
select distinct struct(k,s) st from a
select a.k, b.k from a join b on a.k=b.k
select k,s,grouping(k) g from a group by grouping sets ((k),(s))
select s,count(*) c from a group by s having count(*)>3
select k, row_number() over (partition by s order by i) rn from a qualify rn=1
select sum(x) from (select s, max(v) x from a group by s)
select approx_percentile_cont(v,0.5) p from a
select approx_distinct(k) p from a
select split_part(s,'x',1), upper(s), length(s), s||'z', substr(s,1,1), trim(s), concat(s,k) from a
select * from a join b on a.k is not distinct from b.k
select sum(distinct k), avg(distinct k), min(distinct k), count(distinct s) from a
select s, bool_and(v>0), bool_or(v>0), bit_and(k), bit_or(k), bit_xor(k) from a group by s
select sum(cast(i as bigint unsigned)), max(s), min(s) from a
select k % 2 as m, count(*) from a group by k % 2 order by m
select k % 2 as m, s, count(*), sum(v) from a group by 1, 2 order by 1, 2
select max(x) from (select k, count(*) x from a group by k) where x > 2
select t.k, u.c from (select distinct k from a) t join (select k, count(*) c from b group by k) u on t.k=u.k
select * from (select * from a order by i limit 5) x join b on x.k=b.k
select coalesce(k, -1) c, nullif(i, 3), greatest(k, i) from a where coalesce(v, 0) > 0
select i from a where i > all (select 3)
select i from a where not (k = 1) and k is not null and s is null
select percentile_cont(0.5) within group (order by v) from a
select i, nth_value(v, 2) over (partition by k order by i) from a
select k, array_agg(distinct s order by s) from a where s is not null group by k
select count(*) c, k from a group by k order by c desc, k limit 3
select i from a union select w from b order by 1 limit 5
select i from a union select w from b order by 1 limit 5 offset 60
select b.t, sum(a.v) from a join b using (k) group by b.t order by 2 desc
select i, sum(v) filter (where k>2) over (order by i) y from a
select i, count(distinct k) over (partition by s) y from a
select i, sum(i) over (order by i groups between 1 preceding and 1 following) y from a
select first_value(v order by i) ignore nulls y, last_value(v order by i) respect nulls z from a
select i, sum(i) over (order by s, i range between unbounded preceding and current row) y from a
select i, lead(v, 2, 0.0) over (partition by s order by i desc nulls last) y from a
select i, lag(v) ignore nulls over (order by i) y from a
select i, cast(s as varchar) c, cast(i as decimal(10,2)) d, cast('2020-01-01' as timestamp) t, timestamp '2020-01-01 00:00:00.123456789' ns from a
select -9223372036854775808 as m, 18446744073709551615 as u, 1.5e300 f, 0.1 d, 123456789012345678901234567890.12 x from c limit 1
select arrow_cast(1,'UInt8') a, arrow_cast('2020-01-01','Timestamp(Second, Some("Europe/Rome"))') t from c limit 1
select array_length([1,2,k]), [1,2][1] from a
select i, ntile(4) over (order by i), cume_dist() over (order by k), percent_rank() over (order by k), dense_rank() over (order by k) from a
select i, sum(i) over w x, max(v) over w y from a window w as (partition by k order by i)
select string_agg(distinct s, ',') from (select s from a where s='x')
select position('x' in s), overlay(s placing 'q' from 1 for 1), s is distinct from 'x' from a
select b.t, count(*) from a join b on a.k=b.k where a.v > 0 and b.w < 40 group by b.t having count(*) > 1 order by b.t
